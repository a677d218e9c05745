"""`python -m tests.bench NAME ...`: runs a bench by the name of its file in this folder."""

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast


class Bench(Protocol):
    """What each bench's file offers."""

    def main(self, argv: list[str]) -> int:
        """Run with the words after the name; print JSON; nought when the bound was met."""
        ...


def names() -> list[str]:
    """Every bench there is."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return sorted(file.stem for file in files)


def summary(name: str) -> str:
    """What a bench measures: the first words of its file, up to how it is called."""
    file = Path(__file__).with_name(f"{name}.py")
    first = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
    return first.partition(": `")[0].rstrip(".")


def main(argv: list[str]) -> int:
    """List the benches, or run one."""
    if not argv or argv[0] in ("-h", "--help"):
        print("python -m tests.bench NAME ...")
        for each in names():
            print(f"  {each.replace('_', '-'):<16}{summary(each)}")
        return 0
    # A name may be written as the shell likes it: match-pairs is the file match_pairs.py.
    name = argv[0].replace("-", "_")
    # `import` is a word of the language, so no file can be imported by that name.
    name = "import_tasks" if name == "import" else name
    if name not in names():
        known = ", ".join(names())
        print(f"there is no bench {name!r}; there are: {known}", file=sys.stderr)
        return 2
    return cast("Bench", import_module(f"tests.bench.{name}")).main(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
