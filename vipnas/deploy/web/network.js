// The network of a page: poses in boxes of an image.

import { cropInto, cropView, mirrored, toImage } from "./crops.js";

export class PoseNetwork {
  /**
   * @param ort onnxruntime-web.
   * @param network Session of network.onnx: pixels to heatmaps.
   * @param decoder Session of decoder.onnx: heatmaps to x, y in input pixels, and score.
   * @param facts model.json.
   */
  constructor(ort, network, decoder, facts) {
    this.ort = ort;
    this.network = network;
    this.decoder = decoder;
    this.facts = facts;
  }

  /** Return {keypoints, scores} of each box: K pairs in pixels of the image, and K scores. */
  async predict(image, boxes, flipTest = false) {
    if (boxes.length === 0) return [];
    const { hw, box_padding: padding, aspect, flip_shift: shift } = this.facts.header.input;
    const size = hw[0] * hw[1] * 3;
    const crops = new Uint8Array(boxes.length * size);
    const views = boxes.map((box, number) => {
      const view = cropView(box, this.facts.span_hw, padding, aspect);
      cropInto(crops.subarray(number * size, (number + 1) * size), image, view, hw);
      return view;
    });
    let heatmaps = await this.heatmaps(crops, boxes.length);
    if (flipTest) {
      const others = await this.heatmaps(mirrored(crops, hw[1], shift), boxes.length);
      heatmaps = this.mean(heatmaps, others, shift);
    }
    const found = await this.decoder.run({ heatmaps });
    return poses(found.keypoints, views);
  }

  async heatmaps(crops, number) {
    const shape = [number, ...this.facts.header.input.hw, 3];
    const found = await this.network.run({ images: new this.ort.Tensor("uint8", crops, shape) });
    return found.heatmaps;
  }

  /** Return the mean of heatmaps and those of mirrored crops, which are mirrored back. */
  mean(heatmaps, others, shift) {
    const [number, joints, height, width] = heatmaps.dims;
    const found = new Float32Array(heatmaps.data.length);
    for (let map = 0; map < number * joints; map++) {
      const joint = map % joints;
      const partner = map - joint + this.facts.flip_order[joint];
      for (let row = 0; row < height; row++) {
        const here = (map * height + row) * width;
        const there = (partner * height + row) * width;
        for (let column = 0; column < width; column++) {
          const from = width - 1 - (shift ? Math.max(column - 1, 0) : column);
          found[here + column] = (heatmaps.data[here + column] + others.data[there + from]) / 2;
        }
      }
    }
    return new this.ort.Tensor("float32", found, heatmaps.dims);
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
