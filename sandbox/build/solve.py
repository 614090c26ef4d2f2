"""From a Dockerfile to the state of its target: the stages at once, their instructions in order.

A stage waits where it needs another one. Everything that takes time happens in processes of its own
(`workers`); this is the loop that awaits them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio
from msgspec import Struct, structs

from sandbox.build.arguments import BuildArguments
from sandbox.build.bases import scratch_state
from sandbox.build.configure import Words, configure, is_configuring, new_workdir, shell_of
from sandbox.build.copy_step import copy_step, workdir_step
from sandbox.build.copying import Copy, Text
from sandbox.build.downloads import Remote, is_git, is_url
from sandbox.build.errors import BuildError, InstructionError
from sandbox.build.flags import Flags
from sandbox.build.instructions import Instruction
from sandbox.build.layers import Layer
from sandbox.build.modes import parse_mode
from sandbox.build.mount_flags import RunMount, read_mounts
from sandbox.build.parse import parse_trigger
from sandbox.build.place import Place, Stepped, TreeSource
from sandbox.build.progress import Progress, Vertex
from sandbox.build.run_mounts import Given
from sandbox.build.run_step import Run, commit_step, failure, find_run, run_step
from sandbox.build.stage_state import StageState
from sandbox.build.stages import SCRATCH, Stage, find_stage
from sandbox.build.words import expand, expand_text
from sandbox.build.workers import Workers
from sandbox.errors import SbxError
from sandbox.image.descriptor import Platform
from sandbox.image.store import Store
from sandbox.spec import NetworkMode

T = TypeVar("T")
_FILE_STEPS = ("RUN", "COPY", "ADD", "WORKDIR")
_SCRIPTS = "/dev/pipes"  # where BuildKit puts here-documents that are executed


class Problem(Struct, frozen=True):
    """All that the build of one target depends on."""

    stages: Sequence[Stage]
    needed: frozenset[int]
    target: Stage
    escape: str
    platform: Platform
    context: TreeSource
    images: dict[str, StageState]  # by reference, as written in the Dockerfile
    arguments: BuildArguments
    given: Given
    network: NetworkMode = "private"


class Solver:
    """Builds the needed stages of one problem."""

    def __init__(
        self, problem: Problem, place: Place, store: Store, workers: Workers, progress: Progress
    ) -> None:
        self.problem = problem
        self.place = place
        self.store = store
        self.workers = workers
        self.progress = progress
        self._states: dict[int, StageState] = {}
        self._done = {number: trio.Event() for number in problem.needed}

    async def solve(self) -> StageState:
        """Return the target's state. Raises SbxError; InstructionError where a line is to blame."""
        async with trio.open_nursery() as nursery:
            for stage in self.problem.stages:
                if stage.number in self.problem.needed:
                    nursery.start_soon(self._build, stage)
        return self._states[self.problem.target.number]

    async def _build(self, stage: Stage) -> None:
        state = await self._begin(stage)
        instructions = (*self._triggers(stage, state), *stage.instructions)
        state = state.with_config(onbuild=())
        builder = _StageBuilder(self, stage, instructions)
        for instruction in instructions:
            state = await builder.carry_out(state, instruction)
        self._states[stage.number] = state
        self._done[stage.number].set()

    async def _begin(self, stage: Stage) -> StageState:
        if stage.base_stage is not None:
            state = await self.state_of(stage.base_stage)
            return structs.replace(state, cmd_is_own=False)
        if stage.base == SCRATCH:
            return scratch_state(self.problem.platform)
        return self.problem.images[stage.base]

    def _triggers(self, stage: Stage, state: StageState) -> list[Instruction]:
        """Return what ONBUILDs of the base add to the stage."""
        origin = stage.origin
        return [parse_trigger(text, origin.line, origin.end) for text in state.config.onbuild]

    async def state_of(self, number: int) -> StageState:
        await self._done[number].wait()
        return self._states[number]

    def lower(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """Return the directories of *layers*, topmost first."""
        return tuple(str(self.store.layers.path(layer.diff_id)) for layer in reversed(layers))

    async def tree_of(self, name: str, stage: Stage) -> TreeSource:
        """Return the tree that `--from=NAME` means. Raises NotFound."""
        number = find_stage(name, self.problem.stages[: stage.number], by_number=True)
        if number is not None:
            state = await self.state_of(number)
        elif name == SCRATCH:
            state = scratch_state(self.problem.platform)
        elif name in self.problem.images:
            state = self.problem.images[name]
        else:
            raise BuildError(f"no stage or image {name!r} is known here")
        return TreeSource(self.lower(state.layers))


class _StageBuilder:
    """Carries out the instructions of one stage."""

    def __init__(self, solver: Solver, stage: Stage, instructions: Sequence[Instruction]) -> None:
        self.solver = solver
        self.problem = solver.problem
        self.stage = stage
        self.count = 1 + sum(i.word in _FILE_STEPS for i in instructions)
        self.number = 1

    async def carry_out(self, state: StageState, instruction: Instruction) -> StageState:
        """Return the state after *instruction*. Raises InstructionError."""
        try:
            words = Words(instruction, state.variables, self.problem.escape)
            if instruction.word == "ARG":
                return self.problem.arguments.in_stage(state, instruction)
            if is_configuring(instruction):
                return self._noted(configure(state, words), instruction, None, "")
            self.number += 1
            if instruction.word == "RUN":
                return await self._run(state, words)
            if instruction.word == "WORKDIR":
                return await self._workdir(state, words)
            if instruction.word in ("COPY", "ADD"):
                return await self._copy(state, words)
            raise BuildError(f"{instruction.word} isn't allowed here")
        except InstructionError as err:
            if err.line:
                raise
            raise _at(instruction, err) from err
        except SbxError as err:
            raise _at(instruction, err) from err

    def _noted(
        self, state: StageState, instruction: Instruction, layer: Layer | None, key: str
    ) -> StageState:
        shown = " ".join(instruction.original.split("\n")[0].split())
        return state.noted(shown, self.solver.place.moment, layer, key)

    def _vertex(self, instruction: Instruction) -> Vertex:
        name = f"{self.stage.shown} " if len(self.problem.stages) > 1 else ""
        shown = " ".join(instruction.original.split("\n")[0].split())
        return self.solver.progress.vertex(f"[{name}{self.number}/{self.count}] {shown}")

    async def _call(self, vertex: Vertex, function: Callable[..., T], *args: object) -> T:
        return await self.solver.workers.call(vertex.output, function, *args)

    # ── COPY, ADD, WORKDIR ──

    async def _copy(self, state: StageState, words: Words) -> StageState:
        flags = Flags(words.instruction)
        origin = flags.text("from")
        source = self.problem.context
        if origin is not None:
            source = await self.solver.tree_of(words.one(origin), self.stage)
        copy, remotes = _read_copy(state, words, flags)
        step = partial(
            copy_step,
            self.solver.place,
            copy,
            source,
            self.solver.lower(state.layers),
            state.chain,
            remotes,
        )
        return await self._file_step(state, words.instruction, step)

    async def _workdir(self, state: StageState, words: Words) -> StageState:
        path = new_workdir(state, words)
        state = state.with_config(workdir=path)
        step = partial(
            workdir_step,
            self.solver.place,
            path,
            state.config.user,
            self.solver.lower(state.layers),
            state.chain,
        )
        return await self._file_step(state, words.instruction, step)

    async def _file_step(
        self, state: StageState, instruction: Instruction, step: Callable[[], Stepped]
    ) -> StageState:
        vertex = self._vertex(instruction)
        with _Told(vertex, self.solver.progress) as told:
            stepped = await self._call(vertex, step)
            told.cached = stepped.cached
        return self._noted(state, instruction, stepped.new_layer, stepped.key)

    # ── RUN ──

    async def _run(self, state: StageState, words: Words) -> StageState:
        instruction = words.instruction
        step = await self._read_run(state, words)
        vertex = self._vertex(instruction)
        with _Told(vertex, self.solver.progress) as told:
            found = await self._find(vertex, step)
            if isinstance(found, Stepped):
                told.cached = True
                return self._noted(state, instruction, found.new_layer, found.key)
            vertex.start()
            ran = await self._call(vertex, run_step, self.solver.place, step, self.problem.given)
            if ran.exit_code != 0:
                raise failure(step, " ".join(step.argv), ran)
            layer = await self._call(vertex, commit_step, self.solver.place, ran, step.lower, found)
            stepped = Stepped(found, layer, False)
        return self._noted(state, instruction, stepped.new_layer, found)

    async def _find(self, vertex: Vertex, step: Run) -> Stepped | str:
        if any(mount.type == "bind" for mount in step.mounts):
            return await self._call(vertex, find_run, self.solver.place, step)
        return find_run(self.solver.place, step)  # nothing to read but the record

    async def _read_run(self, state: StageState, words: Words) -> Run:
        instruction = words.instruction
        flags = Flags(instruction)
        if flags.text("security") not in (None, "sandbox"):
            raise words.wrong("--security=insecure is never granted", "every RUN is sandboxed")
        if flags.texts("device"):
            raise words.wrong("--device is not supported", "devices reach past the sandbox")
        network = _network(flags.text("network"), self.problem.network, words)
        mounts = read_mounts(instruction, words.one, state.config.workdir)
        trees = tuple([await self._tree(mount) for mount in mounts])
        argv, script = _command(state, words)
        env = dict(state.config.env)
        for name, value in state.arguments.items():
            if value is not None:
                env.setdefault(name, value)
        return Run(
            argv,
            tuple(env.items()),
            state.config.workdir or "/",
            state.config.user,
            network,
            self.solver.lower(state.layers),
            state.chain,
            mounts,
            trees,
            script,
            tuple(self.problem.arguments.proxies().items()),
        )

    async def _tree(self, mount: RunMount) -> TreeSource | None:
        if mount.origin:
            return await self.solver.tree_of(mount.origin, self.stage)
        return self.problem.context if mount.type == "bind" else None


class _Told:
    """Tells of a step's end, however it ends."""

    def __init__(self, vertex: Vertex, progress: Progress) -> None:
        self.vertex = vertex
        self.progress = progress
        self.cached = False

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            if self.cached:
                self.vertex.cached()
            else:
                self.vertex.done()
        elif isinstance(error, SbxError):
            self.vertex.fail(error.message)
            if self.progress.failed is None:
                self.progress.failed = self.vertex
        else:
            self.vertex.cancel()


def _at(instruction: Instruction, err: SbxError) -> InstructionError:
    return InstructionError(
        err.message, instruction.line, instruction.end, detail=err.detail, hint=err.hint
    )


def _network(given: str | None, default: NetworkMode, words: Words) -> NetworkMode:
    if given is None or given == "default":
        return default
    if given == "none":
        return "none"
    if given == "host":
        if default != "host":
            raise words.wrong(
                "--network=host is not granted to this build", "sbx build --network host"
            )
        return "host"
    raise words.wrong(f"invalid network mode: {given!r}", "default, none or host")


def _command(state: StageState, words: Words) -> tuple[tuple[str, ...], tuple[str, str] | None]:
    """Return what RUN executes, and a script to be put into the container for it."""
    instruction = words.instruction
    if instruction.json:
        if not instruction.values:
            raise words.wrong("RUN needs a command")
        return instruction.values, None
    text = " ".join(instruction.values).strip()
    if not text:
        raise words.wrong("RUN requires at least one argument")
    if instruction.heredocs:
        first = instruction.heredocs[0]
        if len(text.split()) == 1 and text.startswith("<<") and len(instruction.heredocs) == 1:
            if first.content.startswith("#!"):
                path = f"{_SCRIPTS}/{first.name}"
                return (path,), (path, first.text)
            text = first.text
        else:
            documents = [f"{h.content}{h.name}" for h in instruction.heredocs]
            text = "\n".join([text, *documents])
    return (*shell_of(state), text), None


def _read_copy(state: StageState, words: Words, flags: Flags) -> tuple[Copy, tuple[Remote, ...]]:
    instruction = words.instruction
    values = instruction.values
    if len(values) < 2:
        raise words.wrong(
            f"{instruction.word} requires at least two arguments",
            f"{instruction.word} SOURCE … TARGET",
        )
    documents = {heredoc.name: heredoc for heredoc in instruction.heredocs}
    sources: list[str] = []
    texts: list[Text] = []
    for value in values[:-1]:
        name = value.lstrip("0123456789").removeprefix("<<").removeprefix("-").strip("\"'")
        heredoc = documents.get(name) if "<<" in value else None
        if heredoc is None:
            sources.append(words.one(value))
        else:
            content = heredoc.text
            if heredoc.expand:
                content = expand_text(content, words.variables)
            texts.append(Text(heredoc.name, content))
    target = _target(state, words.one(values[-1]), words)
    several = len(sources) + len(texts) > 1
    if several and not target.endswith("/"):
        raise words.wrong(
            f"when using {instruction.word} with more than one source file, the destination must "
            "be a directory and end with a /"
        )
    is_add = instruction.word == "ADD"
    remotes = _remotes(sources, words, flags) if is_add else ()
    chmod = flags.text("chmod")
    chown = flags.text("chown")
    copy = Copy(
        tuple(sources) if not remotes else (),
        target,
        tuple(texts),
        words.one(chown) if chown is not None else None,
        parse_mode(words.one(chmod)) if chmod is not None else None,
        flags.boolean("link"),
        flags.boolean("parents"),
        tuple(words.one(pattern) for pattern in flags.texts("exclude")),
        flags.boolean("unpack", default=is_add and not remotes),
        several,
    )
    return copy, remotes


def _target(state: StageState, path: str, words: Words) -> str:
    """Return the absolute target; a slash at its end stays."""
    import posixpath

    if not path:
        raise words.wrong("the target is empty", "a variable in it may be empty")
    joined = posixpath.join(state.config.workdir or "/", path)
    cleaned = "/" + posixpath.normpath(joined).lstrip("/")
    directory = path.endswith(("/", "/.")) or path == "."
    return cleaned + "/" if directory and cleaned != "/" else cleaned


def _remotes(sources: Sequence[str], words: Words, flags: Flags) -> tuple[Remote, ...]:
    found = [source for source in sources if is_url(source) or is_git(source)]
    checksum = flags.text("checksum")
    if not found:
        if checksum:
            raise words.wrong("--checksum is for remote sources")
        return ()
    if len(found) != len(sources):
        raise words.wrong("local and remote sources can't be mixed", "write two ADDs")
    if checksum and len(found) > 1:
        raise words.wrong("--checksum takes one source")
    wanted = expand(checksum, words.variables) if checksum else None
    return tuple(Remote(url, wanted, flags.boolean("keep-git-dir")) for url in found)
