"""Name resolution at 127.0.0.11 in every container.

    message     DNS as bytes                                     pure
    zone        which name has which records on which network    pure
    resolvconf  resolv.conf read and written                     pure
    stream      messages over TCP
    forward     questions put to upstreams
    server      the resolver: sockets in, answers out

What an asker gets:

* All containers of a service, in another order each time; a container by its name, short id and aliases;
  each of these names also followed by `.<network>`; links; and for an address `<container>.<network>`.
* Only what is on networks it shares. Where several know a name the first of them answers, in the order in
  which the asker's networks were given: names on a network shared with others never mix with one's own.
* "No such name" (NXDOMAIN) and "nothing of that type" (no data) told apart, and none of it to be kept (TTL
  0).
* Everything else from the host's resolvers, or the service's own, asked from the host's namespace: a
  resolver on the host's 127.0.0.53 works, and one in a container is reached by its address. Where nothing
  is to be forwarded, other names do not exist.
"""
