"""Runs the main function of a command with the help text of its own module."""

import atexit
import gc
import pathlib
import re
import sys
from collections.abc import Callable

from absl import app, flags

from pipeline.system import console

# What absl says of a flag that is required and not there.
_REQUIRED = re.compile(
    r"flag --(\w+)=None: Flag --\w+ must have a value other than None"
)


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the command line and runs the main function of a command.

    Both `python -m pipeline.main` and the console script photograph-prepare end here.
    absl prints the docstring of the module `__main__`, and `--help` lists the flags of
    that module. For a console script, `__main__` is the script, which has neither.
    Therefore this function gives it the docstring and the flags of main's module.

    Args:
      main: takes the words of the command line that are no flags; the first word is
        the name of the program.
    """
    module = sys.modules[main.__module__]
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    program = pathlib.Path(sys.argv[0]).name
    help_text = (module.__doc__ or "").replace(f"python -m {module.__name__}", program)
    sys.modules["__main__"].__doc__ = help_text
    # With `python -m` the module's own name is __main__.
    command = module.__spec__.name if module.__spec__ else program

    def parse(words: list[str]) -> list[str]:
        try:
            return flags.FLAGS(words)
        except flags.Error as error:
            problem = _REQUIRED.sub(r"--\1 is required", str(error)).rstrip(".")
            hint = f"python -m {command} --help lists the flags"
            console.fail(command, ValueError(f"{problem}; {hint}"))

    # Python looks for garbage in all objects before it exits, which takes a second
    # after TensorFlow has traced graphs. The system frees the memory in any case.
    atexit.register(gc.freeze)
    app.run(main, flags_parser=parse)
