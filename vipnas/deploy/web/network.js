// The networks of a page: poses in boxes of an image, and from frame to frame.

import { cropInto, cropView, heatmapWarp, mirrored, toImage } from "./crops.js";
import { Schedule } from "./key_frames.js";

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
    this.schedule = new Schedule(facts);
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
   * @param memories Of each box the `memory` of its previous pose; null brings a key frame.
   * @returns {keypoints, scores, memory} of each box.
   */
  async follow(image, boxes, memories) {
    const { hw } = this.facts.header.input;
    const views = boxes.map((box) => this.view(box));
    const crops = this.crops(image, views);
    const size = crops.length / views.length;
    const cropOf = (row) => crops.subarray(row * size, (row + 1) * size);
    const coarse = views.map((_, row) => this.schedule.view(cropOf(row), hw));
    const distances = memories.map((memory, row) => this.schedule.distance(memory, coarse[row]));
    const found = [];
    for (const distance of new Set(distances)) {
      const rows = [...distances.keys()].filter((row) => distances[row] === distance);
      const own = rows.map((row) => views[row]);
      const before = distance ? this.before(rows.map((row) => memories[row]), own) : {};
      const pixels = new Uint8Array(rows.length * size);
      rows.forEach((row, number) => pixels.set(cropOf(row), number * size));
      const network = this.schedule.network(distance);
      const heatmaps = await this.heatmaps(pixels, rows.length, network, before);
      const [, joints, height, width] = heatmaps.dims;
      const numValues = joints * height * width;
      (await this.decoded(heatmaps, own)).forEach((pose, number) => {
        const row = rows[number];
        const memory = {
          distance,
          heatmaps: heatmaps.data.slice(number * numValues, (number + 1) * numValues),
          dims: heatmaps.dims,
          view: views[row],
          score: pose.scores.reduce((sum, score) => sum + score, 0) / joints,
          keyView: distance ? memories[row].keyView : coarse[row],
        };
        found[row] = { ...pose, memory };
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

  async heatmaps(crops, number, which = 0, before = {}) {
    const shape = [number, ...this.facts.header.input.hw, 3];
    const inputs = { images: new this.ort.Tensor("uint8", crops, shape), ...before };
    const network = this.networks[which];
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
