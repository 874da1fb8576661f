"""`develop.watch`: what is saved on this host reaches containers, or begins their rebuild or restart.

    tree      what is below some paths, and what of it has changed (inotify)
    rules     which change is the matter of which rule, and what follows from it (pure)
    deliver   files into a container, by descriptors only
    session   the loop that joins them

Levels, not edges: an event only says where to look again, and each container is given what it lacks. So a
queue that overflowed, a container that was made anew or did not run for a while, and an editor that saves by
renaming are no special cases. Nothing here prints or knows a flag.
"""
