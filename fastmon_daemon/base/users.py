"""Users and groups of this host."""

from __future__ import annotations

import grp
import os
import pwd


def user_name(uid: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def is_private_group(gid: int) -> bool:
    """Return whether it is the group of our user alone: many systems make one for each user, with a umask of 002."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return (group.gr_name, gid) == (user.pw_name, user.pw_gid) and set(group.gr_mem) <= {user.pw_name}
