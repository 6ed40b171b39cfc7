"""Write the step that takes databases to the tables as the code has them now.

python scripts/revision.py "devices have batteries"    a new module in cloud/foundation/migrations/versions

Alembic compares the tables with those that the steps make so far. Read what it wrote: it does not see everything, as
the condition of an index, and knows nothing of the rows.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from mako.template import Template
from sqlalchemy import create_engine

import cloud.app  # noqa: F401 - with it every room's tables are known
from cloud.foundation import migrate
from cloud.foundation.database import metadata


def main() -> None:
    """Write the step, by the arguments."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its argument
        sys.exit(__doc__)
    message = sys.argv[1].rstrip(".").capitalize()
    with create_engine("sqlite://").begin() as scratch:
        migrate.upgrade(scratch)
        changes = produce_migrations(MigrationContext.configure(scratch, opts={"compare_type": True}), metadata)
    assert changes.upgrade_ops is not None
    if changes.upgrade_ops.is_empty():
        sys.exit("the steps make all tables already: there is nothing to write")
    code = "\n".join(line for line in render_python_code(changes.upgrade_ops).splitlines() if "###" not in line)
    number = f"{int(migrate.head()) + 1:04}"
    name = re.sub(r"\W+", "_", message.lower()).strip("_")
    path = migrate.FOLDER / "versions" / f"v{number}_{name}.py"
    template = Template(filename=str(migrate.FOLDER / "script.py.mako"))  # noqa: S702 - Python code, no HTML
    path.write_text(
        template.render(message=message, up_revision=number, down_revision=migrate.head(), upgrades=code.strip())
    )
    subprocess.run([Path(sys.executable).with_name("ruff"), "format", "--quiet", str(path)], check=True)
    print(f"written: {path}. Read it, then run the tests of the migrations")


if __name__ == "__main__":
    main()
