# shellcheck shell=sh
# Sourced by the scripts here. as_root COMMAND…: run it as root, through sudo when we are not.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: this step needs root, and sudo is not installed: $*" >&2
        return 1
    fi
}
