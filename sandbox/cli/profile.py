"""`sbx profile ls|show`: the settings that `run --profile` begins with."""

from __future__ import annotations

from sandbox.cli.formatting import FORMAT, QUIET, Listing, print_line, print_listing, print_object
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine import profiles
from sandbox.engine.context import Context
from sandbox.spec import to_json

_LISTING = Listing(
    headings={"Name": "NAME", "Description": "DESCRIPTION", "Path": "PATH"},
    shown=("Name", "Description", "Path"),
    quiet="Name",
)


def list_profiles(arguments: Arguments, context: Context) -> int:
    rows = [_row(name, context) for name in profiles.names(context.paths)]
    print_listing(_LISTING, rows, arguments.text("format"), quiet=arguments.flag("quiet"))
    return 0


def _row(name: str, context: Context) -> dict[str, str]:
    file = profiles.find(name, context.paths)
    path = "built in" if file.parent == profiles.BUILT_IN else str(file)
    return {
        "Name": name,
        "Description": profiles.load(name, context.paths).description,
        "Path": path,
    }


def show(arguments: Arguments, context: Context) -> int:
    home = context.environ.get("HOME") or "/"
    profile = profiles.load(arguments.positionals[0], context.paths, home=home)
    form = arguments.text("format")
    if form is None:
        from sandbox.engine.profile_text import profile_text

        print_line(profile_text(profile).rstrip("\n"))
    else:
        print_object(to_json(profile), form)
    return 0


LS = Command(
    name="profile ls",
    arguments="",
    summary="List profiles",
    run=list_profiles,
    options=(FORMAT, QUIET),
    at_most=0,
)
SHOW = Command(
    name="profile show",
    arguments="PROFILE",
    summary="Show what a profile sets",
    run=show,
    options=(FORMAT,),
    at_least=1,
    at_most=1,
    completion="profile",
    examples=(Example("sbx profile show untrusted", "What holds for code that isn't trusted"),),
)
