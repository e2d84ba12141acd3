"""Lets tests here say `import toy_task`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
