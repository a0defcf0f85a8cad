"""The description and the examples of every command. A test parses each example."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """What `vipnas COMMAND --help` shows around the options."""

    description: str
    examples: tuple[str, ...]


TEXTS = {
    "init": Text(
        "Write a commented experiment for your data, budget and time. It looks at the data, times\n"
        "ten steps on this machine, and chooses input size, hours of each training, and trials.\n"
        "What is not given is asked for.",
        (
            "vipnas init --train train.json --images images --test test.json --budget '25 fps'"
            " --hours 1 -o mine.yaml",
            "vipnas init -o mine.yaml",
        ),
    ),
    "run": Text(
        "Run a whole experiment: train the supernet, search it, retrain and evaluate what was\n"
        "found. The same command resumes a run that was stopped.",
        (
            "vipnas run quickstart",
            "vipnas run my_experiment.yaml --data-root /data --output runs/mine --workers 4",
        ),
    ),
    "train-supernet": Text(
        "Train the weight-sharing supernet of an experiment, or resume its training.",
        (
            "vipnas train-supernet quickstart",
            "tools/torchrun.sh train-supernet coco_search_res50 --data-root /data",
        ),
    ),
    "search": Text(
        "Search the supernet for architectures within the budgets, or resume the search. Writes\n"
        "trials.jsonl, best.json, pareto.json and pareto.png.",
        (
            "vipnas search quickstart",
            "vipnas search quickstart --workers 8 --gpus-per-worker 0.5",
        ),
    ),
    "retrain": Text(
        "Train a single architecture, by default the best of the search, and evaluate it.",
        (
            "vipnas retrain quickstart",
            "vipnas retrain coco_s_vipnas_res50 --arch published/s_vipnas_res50",
            "vipnas retrain quickstart --front runs/quickstart/search/pareto.json --workers 2",
        ),
    ),
    "evaluate": Text(
        "Compute metrics of a model, or of predictions in a COCO results file.",
        (
            "vipnas evaluate quickstart runs/quickstart/retrain/network.safetensors",
            "vipnas evaluate quickstart results.json --from-results --metrics coco pck",
        ),
    ),
    "report": Text(
        "Write one HTML page about a run, or about several side by side: the network found, every\n"
        "trial, the progress of the search, training curves, and what is needed to reproduce it.\n"
        "The page loads nothing from the network.",
        (
            "vipnas report runs/quickstart",
            "vipnas report runs/seed0 runs/seed1 runs/seed2 -o seeds.html",
            "vipnas report runs/quickstart --beside published/s_vipnas_res50",
        ),
    ),
    "draw": Text(
        "Draw an architecture stage by stage: resolution, width, blocks, kernel, groups,\n"
        "attention, and the share of each part in the MACs. With a second architecture, the\n"
        "choices that differ are marked.",
        (
            "vipnas draw published/s_vipnas_res50 -o arch.svg",
            "vipnas draw runs/quickstart/search/best.json runs/quickstart/search/random_best.json"
            " -o both.svg",
        ),
    ),
    "video": Text(
        "Commands of the temporal level: networks for the frames after a key frame.",
        ("vipnas video search quickstart_video",),
    ),
    "video train-supernet": Text(
        "Train the supernet of the frames after a key frame, or resume its training.",
        ("vipnas video train-supernet quickstart_video",),
    ),
    "video search": Text(
        "Search for networks and fusions of the follow-up frames, or resume the search.",
        ("vipnas video search quickstart_video --workers 2",),
    ),
    "video retrain": Text(
        "Fine-tune the networks of a clip on clips, and evaluate them.",
        ("vipnas video retrain quickstart_video",),
    ),
    "video evaluate": Text(
        "Compute metrics on whole videos, frame after frame as at run time.",
        (
            "vipnas video evaluate quickstart_video"
            " runs/quickstart_video/video/retrain/network.safetensors --boxes pose",
        ),
    ),
    "video export": Text(
        "Export the networks of a clip to ONNX files and compare them with PyTorch.",
        ("vipnas video export runs/quickstart_video/video/retrain/network.safetensors -o clip",),
    ),
    "cost": Text(
        "Count the MACs and parameters of an architecture; on request measure its latency.",
        (
            "vipnas cost published/s_vipnas_res50",
            "vipnas cost published/s_vipnas_res50 --table",
            "vipnas cost best.json --latency --runtime openvino --threads 4",
        ),
    ),
    "replay": Text(
        "Compute a training step that was not finite again, from its failure.pt. Needs no data.",
        ("vipnas replay runs/quickstart/supernet/failure.pt",),
    ),
    "profile": Text(
        "Measure networks and layers of a search space on this machine, for a latency table that\n"
        "predicts milliseconds. The same command resumes.",
        (
            "vipnas profile s_vipnas_res50",
            "vipnas profile tiny --runtime openvino --output latency/tiny.json",
        ),
    ),
    "benchmark": Text(
        "Export a model in every format and precision, and measure size, latency and frames a\n"
        "second on this machine; with an experiment AP, too, and int8.",
        (
            "vipnas benchmark network.safetensors",
            "vipnas benchmark network.safetensors --experiment quickstart --threads 1 2 -o b.json",
            "vipnas benchmark network.pth --arch published/s_vipnas_mbv3 --format onnx openvino",
        ),
    ),
    "doctor": Text(
        "Describe the installation and this machine: versions, CPUs and what of them may be used,\n"
        "memory, GPUs, and for every extra what is missing and the command that installs it.",
        ("vipnas doctor", "vipnas doctor --json"),
    ),
    "info": Text(
        "Describe a model file: its architecture, cost, input and codec, and how it was trained.",
        (
            "vipnas info runs/quickstart/retrain/network.safetensors",
            "vipnas info runs/quickstart/supernet/supernet.safetensors --json",
        ),
    ),
    "convert": Text(
        "Write a model as a published checkpoint (.pth) or as a model file (.safetensors).",
        (
            "vipnas convert runs/quickstart/retrain/network.safetensors --to published"
            " -o network.pth",
            "vipnas convert network.pth --arch published/s_vipnas_mbv3 --codec quarter"
            " --skeleton coco_17 --to safetensors -o network.safetensors",
        ),
    ),
    "export": Text(
        "Export a network for another runtime, and compare its outputs with PyTorch. The format\n"
        "web is a page that runs it in a browser, on a camera or on files.",
        (
            "vipnas export runs/quickstart/retrain/network.safetensors -o pose.onnx",
            "vipnas export network.pth --arch published/s_vipnas_mbv3 -o pose.onnx",
            "vipnas export network.safetensors --format web -o page",
            "vipnas export network.safetensors --format web --detector nanodet:nanodet.onnx"
            " -o page",
        ),
    ),
    "predict": Text(
        "Find and draw the poses of people in images, videos, cameras and streams. Frames are\n"
        "read one by one; those done so far are kept on Ctrl-C and after an error.",
        (
            "vipnas predict network.safetensors photos/ -o poses/",
            "vipnas predict network.safetensors clip.mp4 -o drawn.mp4 -o poses.json",
            "vipnas predict clip.safetensors street.mp4 --detector nanodet:nanodet.onnx --smooth"
            " -o tracks.json --json-form posetrack18",
            "vipnas predict movenet:movenet-thunder.onnx 0 -o camera.mp4",
        ),
    ),
    "label": Text(
        "Write the joints that a model finds as a COCO annotation file, to train on. Joints below\n"
        "the threshold are not labelled; frames of a video are written as images beside the file.\n"
        "In the experiment, add the file to data.train and name that of real labels in\n"
        "data.val_from.",
        (
            "vipnas label network.safetensors photos/ -o photos.json --detector"
            " nanodet:nanodet.onnx",
            "vipnas label movenet:movenet-thunder.onnx photos/ -o photos.json --calibrate-on"
            " train.json --calibrate-images images --precision 0.9",
            "vipnas label network.safetensors clip.mp4 -o clip.json --every 10",
        ),
    ),
    "demo": Text(
        "Draw what both quickstarts found on a synthetic video, beside its labels. It needs their\n"
        "runs, `vipnas run quickstart` and `vipnas run quickstart_video`, and less than a minute.",
        ("vipnas demo", "vipnas demo --seed 3 --num-frames 50 -o people.mp4"),
    ),
    "inspect-data": Text(
        "Describe the data of an experiment and draw a sheet of its crops.",
        ("vipnas inspect-data quickstart --split train --augmented --sheet crops.png",),
    ),
    "import-data": Text(
        "Convert labels of another program to a COCO annotation file: YOLO-pose folders, exports\n"
        "of Label Studio (JSON) and CVAT (for images 1.1), DeepLabCut projects, SLEAP projects\n"
        "and whatever else sleap-io reads.",
        (
            "vipnas import-data yolo-pose dataset/ --split val -o val.json --skeleton coco_17",
            "vipnas import-data label-studio export.json -o data.json --images photos",
            "vipnas import-data sleap labels.slp -o data.json --images frames",
        ),
    ),
    "synthesize": Text(
        "Generate synthetic images or videos of people with keypoint annotations.",
        (
            "vipnas synthesize --output people --num-images 1000 --seed 1",
            "vipnas synthesize --output videos --video --num-videos 20 --num-frames 48",
        ),
    ),
    "completion": Text(
        "Print a script with which a shell completes commands and options.",
        (
            "vipnas completion bash > ~/.local/share/bash-completion/completions/vipnas",
            "vipnas completion zsh > ~/.zfunc/_vipnas",
            "vipnas completion fish > ~/.config/fish/completions/vipnas.fish",
        ),
    ),
}
