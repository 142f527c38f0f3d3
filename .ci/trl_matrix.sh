#!/usr/bin/env bash
# The trainer tests on the oldest and the newest supported TRL (or on the versions given), each in an environment of its own.
#   .ci/trl_matrix.sh [--short] [version ...]
# --short: only the files that hold TRL itself to what we rely on, as .ci/run does for the oldest version.
set -euo pipefail
cd "$(dirname "$0")/.."
tests=(tests/trainers)
if [ "${1:-}" = --short ]; then
  shift
  tests=()
  for name in critic/test_critic seam/test_exactness seam/test_kl_reward test_lhts_training seam/test_parity seam/test_resume_members seam/test_resume_states seam/test_resume_texts seam/test_seam test_sft_weights seam/test_spans_on_tokens run/test_stops seam/test_swap seam/test_swap_hands seam/test_swap_uses; do
    tests+=("tests/trainers/$name.py")
  done
fi
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
  pytest "${tests[@]}" -q || failed+=("$version")
  deactivate
  rm -rf "$folder"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed on trl: ${failed[*]}"; exit 1; }
echo "passed on trl: ${versions[*]}"
