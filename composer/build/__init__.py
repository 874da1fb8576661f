"""Images from Dockerfiles: read, planned, built step by step in containers of our own, kept by content.

    lex ─▶ parse ─▶ stages        what the file says                                      (pure)
    expand, ignore, settings      variables, .dockerignore, an image's configuration      (pure)
    context, cache, snapshot      what is copied from; what was built before; its file tree
    walk                          a stage, step by step: its key, from the cache or by
    hands, copy, run, fetch       doing it
    builder                       a whole build: stages side by side, and the image at the end

A step's key is made of the step and of the content it takes in, so nothing is done twice that would come out
the same. Nothing in here knows stacks, supervisors or terminals.
"""
