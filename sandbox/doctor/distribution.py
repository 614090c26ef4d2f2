"""How to install a package on this distribution (os-release(5))."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

_INSTALL = {
    "debian": "sudo apt-get install {}",
    "fedora": "sudo dnf install {}",
    "arch": "sudo pacman -S {}",
}
# What holds the thing named first, where the name differs from Debian's.
_PACKAGES = {
    "uidmap": {"fedora": "shadow-utils", "arch": "shadow"},
    "passt": {},
    "libseccomp2": {"fedora": "libseccomp", "arch": "libseccomp"},
    "dbus-user-session": {"fedora": "dbus-daemon", "arch": "dbus"},
}
_BOOT = {
    "debian": (
        "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{0} /' /etc/default/grub\n"
        "sudo update-grub && sudo reboot"
    ),
    "fedora": "sudo grubby --update-kernel=ALL --args={0} && sudo reboot",
    "arch": "add {0} to the kernel parameters of your boot loader, then: sudo reboot",
}
_LIKE = {"rhel": "fedora", "centos": "fedora", "ubuntu": "debian"}


class Distribution(Struct, frozen=True):
    """A distribution by its family: debian, fedora, arch or "" for any other."""

    family: str
    name: str

    @classmethod
    def current(cls) -> Distribution:
        import platform

        try:
            return cls.of(platform.freedesktop_os_release())
        except OSError:
            return cls("", "unknown")

    @classmethod
    def of(cls, release: Mapping[str, str]) -> Distribution:
        """Return the distribution that the fields of an os-release file describe."""
        ids = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
        families = (_LIKE.get(name, name) for name in ids)
        family = next((name for name in families if name in _INSTALL), "")
        return cls(family, release.get("PRETTY_NAME") or release.get("ID", "unknown"))

    def install(self, package: str) -> str:
        """Return the command that installs *package* (Debian's name for it)."""
        name = _PACKAGES.get(package, {}).get(self.family, package)
        command = _INSTALL.get(self.family)
        return command.format(name) if command else f"install the package {name} (Debian's name)"

    def boot_with(self, parameter: str) -> str:
        """Return the commands that boot with a kernel *parameter* from now on."""
        return _BOOT.get(self.family, _BOOT["arch"]).format(parameter)
