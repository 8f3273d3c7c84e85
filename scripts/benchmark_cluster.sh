#!/usr/bin/env bash
# Speed of the paper's ImageNet networks on random images: ResNet-50 dense and as ResNet-41, -32 and -26, and ResNeXt-50
# without half of its groups; training and inference, then how both train on several workers. One page, OUT/bench.html.
#   bash scripts/benchmark_cluster.sh --devices gpu0,gpu1 --precision float32,float16 --hosts hosts.txt
# --workers N and --hosts FILE are those of launch (default: no workers); --backend too. --batch, --rounds and
# --precision are those of bench. --out DIR (default runs/benchmark). --quick: tiny networks and two rounds, to see that
# all of it works, in minutes (2 workers on the CPU unless told otherwise). Not measured on GPUs.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

devices=cpu batch=1,8,64 precision=float32 out=runs/benchmark rounds=20 workers= hosts= backend=ps-lite
structures=(resnet41 resnet32 resnet26) tiny=()
while [ $# -gt 0 ]; do
    case $1 in
        --quick) tiny=(--quick) structures=(resnet26) batch=2 rounds=2 workers=${workers:-2} && shift && continue ;;
        --devices | --batch | --precision | --out | --rounds | --workers | --hosts | --backend) ;;
        *) die "$1 is not an option; see the head of scripts/benchmark_cluster.sh" ;;
    esac
    [ $# -ge 2 ] || die "$1 needs a value"
    printf -v "${1#--}" '%s' "$2"
    shift 2
done
set_up test         # with onnx and onnxruntime
cd "$repo"

measured=(--devices "$devices" --rounds "$rounds" --out "$out")
for structure in "${structures[@]}"; do
    sss-gluon bench --model resnet50 --structure "$structure" --batch "$batch" --precision "$precision" "${measured[@]}" \
        ${tiny[@]+"${tiny[@]}"}
done
sss-gluon bench --model resnext50_32x4d --factors group --batch "$batch" --precision "$precision" "${measured[@]}" \
    ${tiny[@]+"${tiny[@]}"}

if [ -n "$workers$hosts" ]; then
    for model in resnet50 resnext50_32x4d; do
        sss-gluon launch --workers "${workers:-1}" ${hosts:+--hosts "$hosts"} --backend "$backend" --logs "$out/logs" \
            bench --model "$model" --batch "${batch##*,}" --precision "${precision%%,*}" "${measured[@]}" \
            ${tiny[@]+"${tiny[@]}"}
    done
fi
echo "the page: $out/bench.html"
