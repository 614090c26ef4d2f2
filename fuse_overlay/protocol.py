"""The kernel's FUSE protocol, as far as it is spoken here without libfuse.

Source: include/uapi/linux/fuse.h, protocol 7.38 (Linux 6.2); the names are its names. Integers are
in the machine's byte order, structures without gaps.
"""

from __future__ import annotations

import struct

# enum fuse_opcode
LOOKUP = 1
FORGET = 2
GETATTR = 3
SETATTR = 4
SYMLINK = 6
MKNOD = 8
MKDIR = 9
UNLINK = 10
RENAME = 12
LINK = 13
OPEN = 14
READ = 15
WRITE = 16
RELEASE = 18
FSYNC = 20
GETXATTR = 22
FLUSH = 25
INIT = 26
OPENDIR = 27
READDIR = 28
RELEASEDIR = 29
FSYNCDIR = 30
ACCESS = 34
CREATE = 35
INTERRUPT = 36
IOCTL = 39
BATCH_FORGET = 42
FALLOCATE = 43
READDIRPLUS = 44
RENAME2 = 45
LSEEK = 46
COPY_FILE_RANGE = 47
TMPFILE = 51

# fuse_init_in.flags, fuse_init_out.flags
ASYNC_READ = 1 << 0
ATOMIC_O_TRUNC = 1 << 3
BIG_WRITES = 1 << 5
SPLICE_WRITE = 1 << 7
SPLICE_MOVE = 1 << 8
SPLICE_READ = 1 << 9
AUTO_INVAL_DATA = 1 << 12
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
WRITEBACK_CACHE = 1 << 16
NO_OPEN_SUPPORT = 1 << 17
PARALLEL_DIROPS = 1 << 18
HANDLE_KILLPRIV = 1 << 19
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
NO_OPENDIR_SUPPORT = 1 << 24
HANDLE_KILLPRIV_V2 = 1 << 28

# fuse_setattr_in.valid
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_KILL_SUIDGID = 1 << 11

# fuse_open_out.open_flags
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_CACHE_DIR = 1 << 3

OPEN_KILL_SUIDGID = 1 << 0  # fuse_open_in.open_flags
WRITE_KILL_SUIDGID = 1 << 2  # fuse_write_in.write_flags
FSYNC_FDATASYNC = 1 << 0  # fuse_fsync_in.fsync_flags

NOTIFY_INVAL_INODE = 2  # enum fuse_notify_code, in the place of an error

IN_HEADER = struct.Struct("=IIQQ")  # len, opcode, unique, nodeid: what every request needs
IN_HEADER_SIZE = 40
UNIQUE = struct.Struct("=Q")  # where an answer is sent without the loop ...
UNIQUE_AT = 8  # ... from the header
CALLER = struct.Struct("=II")  # uid, gid ...
CALLER_AT = 24  # ... in the header
OUT_HEADER = struct.Struct("=IiQ")  # len, error, unique

# ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, -
ATTR = struct.Struct("=QQQqqqIIIIIIIIII")
ATTR_VALID = struct.Struct("=QII")  # seconds, nanoseconds, -: with ATTR, a fuse_attr_out
NODE = struct.Struct("=QQ")  # nodeid, generation ...
ENTRY_VALID = struct.Struct("=QQII")  # ... name and attributes: with ATTR, a fuse_entry_out
ENTRY_SIZE = NODE.size + ENTRY_VALID.size + ATTR.size
OPEN_OUT = struct.Struct("=QII")
WRITE_OUT = struct.Struct("=II")
GETXATTR_OUT = struct.Struct("=II")
LSEEK_OUT = struct.Struct("=Q")
DIRENT = struct.Struct("=QQII")  # ino, off, namelen, type; the name, padded to 8 bytes, follows
NOTIFY_INVAL_INODE_OUT = struct.Struct("=Qqq")

FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE = struct.Struct("=QQ")
# valid, padding, fh, size, lock_owner, atime, mtime, ctime, their nanoseconds, mode, -, uid, gid, -
SETATTR_IN = struct.Struct("=IIQQQqqqIIIIIIII")
MKNOD_IN = struct.Struct("=IIII")  # mode, rdev, umask, padding
MKDIR_IN = struct.Struct("=II")  # mode, umask
RENAME_IN = struct.Struct("=Q")  # newdir
RENAME2_IN = struct.Struct("=QII")  # newdir, flags, padding
LINK_IN = struct.Struct("=Q")  # oldnodeid
OPEN_IN = struct.Struct("=II")  # flags, open_flags
CREATE_IN = struct.Struct("=IIII")  # flags, mode, umask, open_flags
READ_IN = struct.Struct("=QQII")  # fh, offset, size, read_flags or write_flags ...
READ_IN_SIZE = 40  # ... and more that does not matter here
FSYNC_IN = struct.Struct("=QII")  # fh, fsync_flags, padding
GETXATTR_IN = struct.Struct("=II")  # size, padding
LSEEK_IN = struct.Struct("=QQII")  # fh, offset, whence, padding
FALLOCATE_IN = struct.Struct("=QQQII")  # fh, offset, length, mode, padding
# fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
COPY_FILE_RANGE_IN = struct.Struct("=QQQQQQQ")
INIT_IN = struct.Struct("=IIII")  # major, minor, max_readahead, flags
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
# max_pages, map_alignment, flags2, unused
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")

BODY = IN_HEADER_SIZE
"""Where a request's own structure begins."""
