"""A process's own view of the machine, taken before anything else: `python -m polyward_client.isolation PLAN COMMAND`.

This goes into namespaces of its own (Linux; `man 7 namespaces`), gives up all capabilities and becomes the command.
It imports nothing but the standard library, for a process that has threads cannot enter a user namespace:

- network: the trainer's namespace has no interface. Unix sockets in the file system work across namespaces.
- mounts: folders that are hidden are empty, and folders that are read-only stay so, at every path that leads to them.
  Nor can a process that was broken into change what people decided, the programs, or the home of who runs it: the file
  systems that hold these are read-only but for the few folders of its own.
- users: in a namespace of its own, a process cannot look through /proc into those of others, whoever runs them.

Where the kernel refuses, it is enough that the machine already is so, as in a container without a network or under our
systemd units with two users; otherwise the command does not start. Without a command this only tries.
"""
