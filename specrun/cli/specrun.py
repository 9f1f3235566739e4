#!python
"""The command `specrun`, as it is installed: with the interpreter's path in the place of the first line.

The script that an installer writes for an entry point loads `re`, which takes longer than the rest of most commands.
"""

from specrun.cli.main import start

if __name__ == "__main__":
    start()
