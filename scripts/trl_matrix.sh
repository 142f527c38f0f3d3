#!/usr/bin/env bash
# The trainer tests on the oldest and the newest supported TRL (or on the versions given), each in an environment of its own.
#   scripts/trl_matrix.sh [version ...]
set -euo pipefail
cd "$(dirname "$0")/.."
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(1.8.0 newest)
failed=()
for version in "${versions[@]}"; do
  folder=$(mktemp -d)
  python3 -m venv "$folder/venv"
  source "$folder/venv/bin/activate"
  pip install -q --upgrade pip
  pip install -q torch==2.13.0 || pip install -q torch
  pip install -q -e ".[test]"
  if [ "$version" = newest ]; then pip install -q --upgrade "trl<2"; else pip install -q "trl==$version"; fi
  echo "== trl $(python -c 'import trl; print(trl.__version__)'), transformers $(python -c 'import transformers; print(transformers.__version__)')"
  pytest tests/trainers -q || failed+=("$version")
  deactivate
  rm -rf "$folder"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed on trl: ${failed[*]}"; exit 1; }
echo "passed on trl: ${versions[*]}"
