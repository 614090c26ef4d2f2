"""A whole build: the context, the images below, the stages, and what is made of the target."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from msgspec import Struct

from sandbox.build import image_writer
from sandbox.build.arguments import BuildArguments, platform_arguments
from sandbox.build.bases import Bases
from sandbox.build.context import BuildContext, open_context
from sandbox.build.errors import BuildError, InstructionError, excerpt
from sandbox.build.instructions import Dockerfile, Instruction
from sandbox.build.layers import Layer
from sandbox.build.options import BuildOptions, Output
from sandbox.build.outputs import write_directory, write_tar
from sandbox.build.parse import parse_dockerfile, parse_trigger
from sandbox.build.place import Place, TreeSource
from sandbox.build.progress import PlainProgress, Progress
from sandbox.build.run_mounts import Given
from sandbox.build.solve import Problem, Solver
from sandbox.build.stage_state import StageState
from sandbox.build.stages import (
    SCRATCH,
    Stage,
    find_stage,
    find_target,
    needed_stages,
    read_stages,
    sources_of,
)
from sandbox.build.workers import Workers
from sandbox.engine.containers import open_containers
from sandbox.engine.context import Context
from sandbox.engine.registry.loop import run_trio
from sandbox.errors import SbxError
from sandbox.image import save, step_records
from sandbox.image.platform import own_platform
from sandbox.image.store import Store
from sandbox.linux.syscalls import set_name

_FORGOTTEN_AFTER = 30 * 86400.0  # seconds without use


class Built(Struct, frozen=True):
    """What came of a build."""

    image_id: str  # "" when no image was asked for


def build(options: BuildOptions, context: Context) -> Built:
    """Carry out a build. Raises SbxError; the store is as before then, but for the cache."""
    context.enter_storage()
    set_name("sbx-build")
    store = Store(context.paths)
    with ExitStack() as stack:
        stack.enter_context(store.adding())
        progress = _progress(options, context)
        stack.callback(progress.close)
        return _Build(options, context, store, progress, stack).carry_out()


class _Build:
    def __init__(
        self,
        options: BuildOptions,
        context: Context,
        store: Store,
        progress: Progress,
        stack: ExitStack,
    ) -> None:
        self.options = options
        self.context = context
        self.store = store
        self.progress = progress
        self.stack = stack
        self.epoch = _epoch(options, context.environ)
        self.now = time.time()
        self.platform = options.platform or own_platform()

    def carry_out(self) -> Built:
        opened = self._open_context()
        dockerfile = self._parse(opened)
        with self._blaming(dockerfile):
            arguments = BuildArguments(
                self.options.arguments,
                {
                    **platform_arguments(own_platform(), self.platform),
                    "TARGETSTAGE": self.options.target or "default",
                },
                dockerfile.escape,
            )
            stages = read_stages(dockerfile, arguments)
            target = find_target(self.options.target, stages)
            needed = frozenset(needed_stages(target, stages))
            bases = self._bases()
            images = self._images(stages, needed, bases)
            imported, missing = bases.imported(self.options.cache_from)
        for reference in missing:
            self.progress.warn(f"--cache-from {reference}: not found")
        tree = TreeSource(directory=opened.directory, patterns=opened.patterns)
        problem = Problem(
            stages,
            needed,
            target,
            dockerfile.escape,
            self.platform,
            tree,
            images,
            arguments,
            Given(self.options.secrets, self.options.sockets),
            self.options.network,
        )
        with self._blaming(dockerfile):
            state = self._solve(problem, imported)
        if unused := arguments.unused():
            self.progress.warn(f"one or more build-args were not consumed: {', '.join(unused)}")
        step_records.forget_older(self.store.layout.root, _FORGOTTEN_AFTER)
        return self._output(state)

    def _open_context(self) -> BuildContext:
        return open_context(
            self.options.context,
            self.options.dockerfile,
            self.store,
            self.context.environ,
            self.stack,
        )

    def _parse(self, opened: BuildContext) -> Dockerfile:
        vertex = self.progress.vertex(
            f"[internal] load build definition from {opened.dockerfile_name}"
        )
        vertex.start()
        try:
            dockerfile = parse_dockerfile(opened.dockerfile, opened.dockerfile_name)
        except InstructionError as err:
            lines = tuple(opened.dockerfile.decode(errors="replace").splitlines())
            self._show(Dockerfile(opened.dockerfile_name, (), lines), err)
            raise
        vertex.done()
        return dockerfile

    @contextmanager
    def _blaming(self, dockerfile: Dockerfile) -> Iterator[None]:
        """Show the lines of the Dockerfile that an error comes from, and the step's last output."""
        try:
            yield
        except InstructionError as err:
            self._show(dockerfile, err)
            raise

    def _show(self, dockerfile: Dockerfile, err: InstructionError) -> None:
        self.progress.close()
        blocks = []
        failed = self.progress.failed
        if failed is not None:
            bar = "------"
            blocks.append("\n".join([bar, f" > {failed.title}:", *failed.last, bar]))
        if err.line:
            place = f"{dockerfile.name}:{err.line}"
            blocks.append(f"{place}\n{excerpt(dockerfile.lines, err.line, err.end)}")
        print("\n".join(blocks), file=sys.stderr, flush=True)

    # ── images ──

    def _bases(self) -> Bases:
        return Bases(
            self.store,
            self.context,
            self.platform,
            "always" if self.options.pull else "missing",
            self.options.progress == "quiet",
        )

    def _images(
        self, stages: tuple[Stage, ...], needed: frozenset[int], bases: Bases
    ) -> dict[str, StageState]:
        """Find all images that needed stages stand on or copy from."""
        images: dict[str, StageState] = {}

        def load(reference: str, stage: Stage, line: int, end: int) -> None:
            if reference in images or reference == SCRATCH:
                return
            vertex = self.progress.vertex(f"[internal] load metadata for {reference}")
            vertex.start()
            try:
                images[reference] = bases.state_of(reference)
            except SbxError as err:
                vertex.fail(err.message)
                raise InstructionError(
                    err.message, line, end, detail=err.detail, hint=err.hint
                ) from err
            vertex.done()

        for stage in stages:
            if stage.number not in needed:
                continue
            if stage.base_stage is None:
                load(stage.base, stage, stage.origin.line, stage.origin.end)
            triggers = self._triggers(stage, images)
            for instruction in (*triggers, *stage.instructions):
                for name in sources_of(instruction):
                    if find_stage(name, stages[: stage.number], by_number=True) is None:
                        load(name, stage, instruction.line, instruction.end)
        return images

    def _triggers(self, stage: Stage, images: Mapping[str, StageState]) -> list[Instruction]:
        state = images.get(stage.base) if stage.base_stage is None else None
        if state is None:
            return []
        origin = stage.origin
        return [parse_trigger(text, origin.line, origin.end) for text in state.config.onbuild]

    # ── building ──

    def _solve(self, problem: Problem, imported: dict[str, Layer]) -> StageState:
        place = Place(
            self.context.paths,
            dict(self.context.environ),
            self.context.user,
            self.epoch,
            self.now,
            self.options.use_cache,
            imported,
        )
        workers = Workers()
        try:
            solver = Solver(problem, place, self.store, workers, self.progress)
            return run_trio(solver.solve)
        except BaseException:
            # Steps that were killed leave containers that nobody ended in order.
            open_containers(self.context)
            raise
        finally:
            workers.close()

    # ── what is made of it ──

    def _output(self, state: StageState) -> Built:
        image_id = ""
        for output in self.options.outputs:
            if output.type == "local":
                self._tell(f"exporting to {output.destination}", self._local, state, output)
            elif output.type == "tar":
                self._tell("exporting a tar archive", self._tar, state, output)
            else:
                image_id = self._image(state, output)
        return Built(image_id)

    def _lower(self, state: StageState) -> tuple[str, ...]:
        layers = reversed(state.layers)
        return tuple(str(self.store.layers.path(layer.diff_id)) for layer in layers)

    def _tell(
        self,
        title: str,
        action: Callable[[StageState, Output], None],
        state: StageState,
        output: Output,
    ) -> None:
        vertex = self.progress.vertex(title)
        vertex.start()
        action(state, output)
        vertex.done()

    def _local(self, state: StageState, output: Output) -> None:
        write_directory(self._lower(state), output.destination)

    def _tar(self, state: StageState, output: Output) -> None:
        place = Place(self.context.paths, {}, self.context.user, self.epoch, self.now)
        write_tar(place, self._lower(state), output.destination, sys.stdout.fileno())

    def _image(self, state: StageState, output: Output) -> str:
        from sandbox.image.names import name_for

        vertex = self.progress.vertex("exporting to image")
        vertex.start()
        names = [*self.options.tags, *(name_for(name) for name in output.names)]
        moment = self.now if self.epoch is None else float(self.epoch)
        document = image_writer.document_of(state, self.options.labels, moment)
        is_archive = output.type in ("oci", "docker")
        manifest = image_writer.write(self.store, state, document, [] if is_archive else names)
        image_id = manifest.config.digest
        if is_archive:
            saved = save.Saved(manifest, document.diff_ids, tuple(names))
            self._save(saved, output)
        vertex.say(f"writing image {image_id} done")
        for name in names:
            vertex.say(f"naming to {name} done")
        vertex.done()
        return image_id

    def _save(self, saved: save.Saved, output: Output) -> None:
        if output.destination == "-":
            with open(sys.stdout.fileno(), "wb", closefd=False) as file:
                save.save(self.store, [saved], file)
            return
        try:
            with open(output.destination, "wb") as file:
                save.save(self.store, [saved], file)
        except OSError as err:
            raise BuildError(f"can't write {output.destination}", detail=err.strerror) from err


def _progress(options: BuildOptions, context: Context) -> Progress:
    if options.progress == "quiet":
        return Progress()
    if options.progress == "tty" or (options.progress == "auto" and os.isatty(2)):
        from sandbox.build.progress_terminal import TerminalProgress

        return TerminalProgress(options.context)
    return PlainProgress()


def _epoch(options: BuildOptions, environ: Mapping[str, str]) -> int | None:
    """Return SOURCE_DATE_EPOCH, seconds (reproducible-builds.org/specs/source-date-epoch)."""
    text = options.arguments.get("SOURCE_DATE_EPOCH", environ.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not text.isdecimal() or len(text) > 11:
        raise BuildError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text[:100]!r}")
    return int(text)
