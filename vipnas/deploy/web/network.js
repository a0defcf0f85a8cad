// The networks of a page: poses in boxes of an image, and from frame to frame.

import { cropInto, cropView, heatmapWarp, mirrored, toImage } from "./crops.js";

export class PoseNetwork {
  /**
   * @param ort onnxruntime-web.
   * @param networks Sessions of network.onnx, from pixels to heatmaps, and of a clip's
   *   follow_up_1.onnx ..., which also take the heatmaps of the previous frame.
   * @param decoder Session of decoder.onnx: heatmaps to x, y in input pixels, and score.
   * @param flipMean Session of flip_mean.onnx: heatmaps of crops and of mirrored ones to their mean.
   * @param facts model.json.
   */
  constructor(ort, networks, decoder, flipMean, facts) {
    this.ort = ort;
    this.networks = networks;
    this.decoder = decoder;
    this.flipMean = flipMean;
    this.facts = facts;
  }

  /** Return {keypoints, scores} of each box: K pairs in pixels of the image, and K scores. */
  async predict(image, boxes, flipTest = false) {
    if (boxes.length === 0) return [];
    const { hw, flip_shift: shift } = this.facts.header.input;
    const views = boxes.map((box) => this.view(box));
    const crops = this.crops(image, views);
    let heatmaps = await this.heatmaps(crops, boxes.length);
    if (flipTest) {
      const others = await this.heatmaps(mirrored(crops, hw[1], shift), boxes.length);
      ({ mean: heatmaps } = await this.flipMean.run({ heatmaps, mirrored: others }));
    }
    return this.decoded(heatmaps, views);
  }

  /**
   * Run the networks of a clip, as ClipRunner in vipnas/deploy/clip_runner.py does.
   *
   * @param memories Of each box null for a key frame, or the `memory` of its previous pose.
   * @returns {keypoints, scores, memory} of each box; `memory` is null where a key frame is next.
   */
  async follow(image, boxes, memories) {
    const rowsByDistance = new Map();
    memories.forEach((memory, row) => {
      const distance = memory?.distance ?? 0;
      rowsByDistance.set(distance, [...(rowsByDistance.get(distance) ?? []), row]);
    });
    const found = [];
    for (const [distance, rows] of rowsByDistance) {
      const views = rows.map((row) => this.view(boxes[row]));
      const before = distance ? this.before(rows.map((row) => memories[row]), views) : {};
      const crops = this.crops(image, views);
      const heatmaps = await this.heatmaps(crops, rows.length, distance, before);
      const poses = await this.decoded(heatmaps, views);
      const [, joints, height, width] = heatmaps.dims;
      const size = joints * height * width;
      poses.forEach((pose, number) => {
        const own = heatmaps.data.slice(number * size, (number + 1) * size);
        const memory = { distance: distance + 1, heatmaps: own, dims: heatmaps.dims, view: views[number] };
        found[rows[number]] = { ...pose, memory: distance < this.networks.length - 1 ? memory : null };
      });
    }
    return found;
  }

  view(box) {
    const { box_padding: padding, aspect } = this.facts.header.input;
    return cropView(box, this.facts.span_hw, padding, aspect);
  }

  /** Return the crops of views, one after the other. */
  crops(image, views) {
    const { hw } = this.facts.header.input;
    const size = hw[0] * hw[1] * 3;
    const crops = new Uint8Array(views.length * size);
    views.forEach((view, number) => {
      cropInto(crops.subarray(number * size, (number + 1) * size), image, view, hw);
    });
    return crops;
  }

  /** Return the heatmaps of the previous frame, and the warps from the crops of now to theirs. */
  before(memories, views) {
    const [, joints, height, width] = memories[0].dims;
    const heatmaps = new Float32Array(memories.length * joints * height * width);
    const warps = new Float32Array(memories.length * 6);
    memories.forEach((memory, number) => {
      heatmaps.set(memory.heatmaps, number * memory.heatmaps.length);
      const warp = heatmapWarp(memory.view, views[number], this.facts.stride_xy, [height, width]);
      warps.set(warp, number * 6);
    });
    return {
      before: new this.ort.Tensor("float32", heatmaps, [memories.length, joints, height, width]),
      warps: new this.ort.Tensor("float32", warps, [memories.length, 2, 3]),
    };
  }

  async heatmaps(crops, number, distance = 0, before = {}) {
    const shape = [number, ...this.facts.header.input.hw, 3];
    const inputs = { images: new this.ort.Tensor("uint8", crops, shape), ...before };
    const network = this.networks[distance];
    // A follow-up network without a fusion takes the images alone.
    const taken = network.inputNames.map((name) => [name, inputs[name]]);
    return (await network.run(Object.fromEntries(taken))).heatmaps;
  }

  async decoded(heatmaps, views) {
    const found = await this.decoder.run({ heatmaps });
    return poses(found.keypoints, views);
  }
}

function poses({ data, dims }, views) {
  const joints = dims[1];
  return views.map((view, number) => {
    const keypoints = [];
    const scores = [];
    for (let joint = 0; joint < joints; joint++) {
      const [x, y, score] = data.subarray((number * joints + joint) * 3);
      if (!Number.isFinite(x + y + score)) throw new Error("the network's output is not finite");
      keypoints.push(toImage(view, x, y));
      scores.push(score);
    }
    return { keypoints, scores };
  });
}
