# Sourced by every script beside it: leaves a ready virtual environment first on PATH.
#
# Needs nothing but Python 3.11 or 3.12. Finds one, and lets _environment.py build the environment from the hashed
# lock, which it skips in a few milliseconds when nothing has changed.
#
#   CONSILIUM_VENV     where the environment lives (default: .venv in the project)
#   CONSILIUM_PYTHON   the Python to build it with (default: the first that fits)
#
# Written for bash 3.2, which is what macOS has.

CONSILIUM_ROOT="$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
export CONSILIUM_ROOT
unset PYTHONHOME PYTHONPATH

# Whether $1 runs and is a Python that can build the environment.
_python_fits() {
  "$1" -I -c 'import sys
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
' >/dev/null 2>&1 && "$1" -I -c 'import ensurepip, ssl, venv' >/dev/null 2>&1
}

# Every Python that might fit, the user's own choice first. A pyenv shim may stand for a version that is not selected:
# each candidate is run before it is believed.
_python_candidates() {
  if [ -n "${CONSILIUM_PYTHON:-}" ]; then
    echo "$CONSILIUM_PYTHON"
    return
  fi
  type -aP python3 python3.12 python3.11 python 2>/dev/null
  local candidate
  for candidate in \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[12].*/bin/python \
    "${HOME:-}"/.local/share/uv/python/cpython-3.1[12].*/bin/python3 \
    /opt/homebrew/bin/python3.1[12] /usr/local/bin/python3.1[12] /usr/bin/python3.1[12]; do
    if [ -x "$candidate" ]; then
      echo "$candidate"
    fi
  done
}

_find_python() {
  local candidate
  while IFS= read -r candidate; do
    if _python_fits "$candidate"; then
      echo "$candidate"
      return 0
    fi
  done <<EOF
$(_python_candidates || true)
EOF
  {
    echo "error: Consilium needs Python 3.11 or 3.12 with its venv module, and none was found. Tried:"
    _python_candidates | while IFS= read -r candidate; do
      echo "  $candidate: $("$candidate" -I --version 2>&1 | head -n 1)"
    done
    echo "Install one (on Debian and Ubuntu: apt-get install python3.11 python3.11-venv), or name one in CONSILIUM_PYTHON."
  } >&2
  return 1
}

_consilium_python="$(_find_python)" || exit 1
CONSILIUM_VENV="$("$_consilium_python" -I "$CONSILIUM_ROOT/scripts/_environment.py")" || exit 1
export CONSILIUM_VENV
export VIRTUAL_ENV="$CONSILIUM_VENV"
PATH="$CONSILIUM_VENV/bin:$PATH"
export PATH
