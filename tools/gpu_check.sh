#!/usr/bin/env bash
# Everything that waits for a GPU, in at most ten minutes: tests, rates, busy share and ratios of
# both published families and lat_vipnas, compilation of the largest subnet. The tests include the
# precision and the batch size that `auto` chooses.
#
#     tools/gpu_check.sh [FOLDER]          # reports go there; by default runs/gpu_check
#
# PYTHON names the interpreter. A part that fails or runs out of time does not stop the others; the
# exit status says whether all parts ended well.
#
# DEVICE=cpu rehearses the script without a GPU: small inputs, one repeat, more time, no verdict on
# ratios, and of compilation only that of the losses.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="${1:-runs/gpu_check}"
device="${DEVICE:-cuda}"
python="${PYTHON:-.venv/bin/python}"
[ -x "$python" ] || python="$(command -v python3)"
mkdir -p "$folder"
failed=0

# part SECONDS NAME ARGUMENTS...: run python with a time limit; its output is kept and shown.
part() {
    local seconds="$(($1 * patience))" name="$2" started="$SECONDS"
    shift 2
    echo "gpu_check: $name (at most $seconds s)"
    timeout --signal=INT --kill-after=10 "$seconds" "$python" "$@" 2>&1 | tee "$folder/$name.log"
    local status="$?" outcome=FAILED
    case "$status" in
        0) outcome="done" ;;
        "$ratios_missed") [ "$device" = cpu ] && outcome="done, ratios not judged" ;;
        124 | 137) outcome="OUT OF TIME" ;;
    esac
    echo "gpu_check: $name: $outcome after $((SECONDS - started)) s"
    [[ "$outcome" = done* ]] || failed=1
}

ratios_missed=3  # the exit status of tools.benchmarks.supernet where a ratio is above its limit
size=(--full-size --batch-size 64 --precision bfloat16 --repeats 3)
seconds=80
patience=1
compiled=(s_vipnas_res50 lat_vipnas) compiled_part=largest
if [ "$device" = cpu ]; then
    patience=5
    size=(--batch-size 1 --precision float32 --repeats 1)
    seconds=5
    compiled=(quick) compiled_part=losses
fi

part 20 machine -c "import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')"
part 150 tests -m pytest -q -m gpu -p no:cacheprovider
for space in s_vipnas_res50 s_vipnas_mbv3 lat_vipnas; do
    part 100 "supernet_$space" -m tools.benchmarks.supernet --device "$device" "${size[@]}" \
        --space "$space" --seconds "$seconds" --report "$folder/supernet_$space.md"
done
for space in "${compiled[@]}"; do
    part 60 "compile_$space" -m tools.benchmarks.compile --device "$device" "${size[@]}" \
        --space "$space" --part "$compiled_part" --report "$folder/compile_$space.md"
done
exit "$failed"
