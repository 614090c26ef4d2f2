"""Keep loopback addresses inside the container's network namespace, on every interface.

A socket that is bound to an interface (SO_BINDTODEVICE, which needs no privilege since Linux 5.7,
or IP_PKTINFO) may send to 127.0.0.1 through it: the kernel finds no route for loopback addresses
there and takes the destination to be on the link. pasta of 2023 and slirp4netns then connect to the
host's own loopback: a container could open connections to its services and send them datagrams,
although the answers don't reach it. So loopback addresses are made local on every interface: what
is sent to them stays inside. Only CAP_NET_ADMIN over the namespace can undo that.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from sandbox.linux.syscalls import CLONE_NEWNET, setns

# include/uapi/linux/netlink.h, include/uapi/linux/rtnetlink.h; rtnetlink(7)
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWROUTE = 24
RT_TABLE_LOCAL = 255
RTPROT_KERNEL = 2
RT_SCOPE_HOST = 254
RTN_LOCAL = 2
RTA_DST = 1
RTA_OIF = 4
ARPHRD_LOOPBACK = 772  # include/uapi/linux/if_arp.h

HEADER = 16  # sizeof(struct nlmsghdr)
RECEIVE = 65536
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.ENODEV)

LOOPBACK = ((socket.AF_INET, "127.0.0.0", 8), (socket.AF_INET6, "::1", 128))


def enter_netlink(netns: int) -> socket.socket:
    """Move this process into the network namespace *netns*; return an rtnetlink socket there.

    For a child: nobody without privileges on the host could come back. The socket can be handed to
    a process outside. Its user needs CAP_NET_ADMIN over the namespace, which the namespace's
    creator has without being inside.
    """
    setns(netns, CLONE_NEWNET)
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


def keep_loopback_inside(netlink: socket.socket) -> None:
    """Do it for all interfaces that the namespace of *netlink* has now. Raises OSError."""
    for index in _interfaces(netlink):
        for family, network, length in LOOPBACK:
            netlink.send(_local_route(family, network, length, index))
            number = _error_number(netlink.recv(RECEIVE))
            # A kernel without IPv6 does not know the family.
            if number and not (family == socket.AF_INET6 and number in NO_IPV6):
                raise OSError(number, os.strerror(number), f"route to {network}")


def _interfaces(netlink: socket.socket) -> list[int]:
    """Return the indexes of all interfaces but lo (RTM_GETLINK)."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
    netlink.send(_message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, body))
    found: list[int] = []
    while True:
        answer = netlink.recv(RECEIVE)
        while answer:
            length, kind = struct.unpack_from("=IH", answer)
            if kind != RTM_NEWLINK:
                return found
            _, device, index, _, _ = struct.unpack_from("=BxHiII", answer, HEADER)
            if device != ARPHRD_LOOPBACK:
                found.append(index)
            answer = answer[(length + 3) & ~3 :]


def _local_route(family: socket.AddressFamily, network: str, length: int, index: int) -> bytes:
    """Return the request of `ip route append local NETWORK dev INDEX table local`."""
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND
    rtmsg = struct.pack(
        "=BBBBBBBBI",
        *(family, length, 0, 0),
        *(RT_TABLE_LOCAL, RTPROT_KERNEL, RT_SCOPE_HOST, RTN_LOCAL, 0),
    )
    body = rtmsg + _attribute(RTA_DST, socket.inet_pton(family, network))
    body += _attribute(RTA_OIF, struct.pack("=I", index))
    return _message(RTM_NEWROUTE, flags, body)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", HEADER + len(body), kind, flags, 0, 0) + body


def _error_number(answer: bytes) -> int:
    """Return the errno of an NLMSG_ERROR; 0 is the acknowledgement."""
    number: int = struct.unpack_from("=i", answer, HEADER)[0]
    return -number
