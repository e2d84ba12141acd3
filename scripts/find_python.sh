#!/bin/sh
# Prints the newest tested Python (3.11 to 3.13) that can make a virtual
# environment, or else any later python3.
for version in 3.13 3.12 3.11; do
  for python in "python$version" \
    "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
    "$python" -c "import ensurepip, ssl, sys, venv
assert '%d.%d' % sys.version_info[:2] == '$version'" 2>/dev/null || continue
    command -v "$python"
    exit 0
  done
done
python3 -c 'import ensurepip, ssl, sys, venv
assert sys.version_info >= (3, 11)' 2>/dev/null && { command -v python3; exit 0; }
echo 'error: no Python >= 3.11 with venv was found: install one, or' \
  'name it: make install PYTHON=/path/to/python' >&2
exit 1
