"""Reading container logs: from disk, by time, in bulk. Needs no supervisor; knows paths and bytes, no stacks.

format    records to lines, many at a time
read      the files of a container, from a place in them to their end; several containers merged by time
follow    the same, and then whatever is added
"""

from composer.logs.follow import follow
from composer.logs.format import Source
from composer.logs.reader import read

__all__ = ["Source", "follow", "read"]
