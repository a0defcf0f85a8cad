// A person detector in ONNX, as vipnas/deploy/onnx_detector.py runs it.

import { fitImage, toImage } from "./crops.js";
import { iou } from "./following.js";
import { FORMS } from "./forms.js";

export class Detector {
  /**
   * @param ort onnxruntime-web.
   * @param session Session of detector.onnx.
   * @param facts `detector` of model.json.
   */
  constructor(ort, session, facts) {
    this.ort = ort;
    this.session = session;
    this.facts = facts;
  }

  /** Return the persons in an image, {box, score}, the best first. */
  async detect(image) {
    const { input, fit, fill, person_class: personClass, output } = this.facts;
    const { fitted, view } = fitImage(image, input.hw, fit, fill);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: this.packed(fitted) });
    const names = output.names ?? this.session.outputNames;
    // tf2onnx keeps the ":0" of TensorFlow's names.
    const tensors = names.map((name) => outputs[name] ?? outputs[`${name}:0`]);
    const found = FORMS[output.form](tensors, output.options, input.hw, personClass);
    return this.suppressed(found)
      .map(({ box, score }) => ({ box: within(box, view, image), score }))
      .filter(({ box: [left, top, right, bottom] }) => right > left && bottom > top);
  }

  /** Return pixels, RGB row by row, as the model takes them. */
  packed(fitted) {
    const { hw, colour, mean, std, layout, dtype } = this.facts.input;
    const count = hw[0] * hw[1];
    const isPlanar = layout === "nchw";
    const values = dtype === "uint8" ? new Uint8Array(count * 3) : new Float32Array(count * 3);
    for (let channel = 0; channel < 3; channel++) {
      const from = colour === "bgr" ? 2 - channel : channel;
      for (let pixel = 0; pixel < count; pixel++) {
        const place = isPlanar ? channel * count + pixel : pixel * 3 + channel;
        values[place] = (fitted[pixel * 3 + from] - mean[channel]) / std[channel];
      }
    }
    const shape = isPlanar ? [1, 3, ...hw] : [1, ...hw, 3];
    return new this.ort.Tensor(dtype, values, shape);
  }

  /** Return candidates that score enough and do not overlap a better one, the best first. */
  suppressed(candidates) {
    const { score_threshold: least, nms_iou: most, is_dense: isDense } = this.facts;
    const kept = [];
    const order = candidates
      .filter(({ score }) => score >= least)
      .sort((one, other) => other.score - one.score);
    for (const one of order) {
      if (!isDense || kept.every((better) => iou(better.box, one.box) <= most)) kept.push(one);
    }
    return kept;
  }
}

function within([left, top, right, bottom], view, { width, height }) {
  const [x0, y0] = toImage(view, left, top);
  const [x1, y1] = toImage(view, right, bottom);
  return [clamp(x0, width), clamp(y0, height), clamp(x1, width), clamp(y1, height)];
}

function clamp(value, most) {
  return Math.min(Math.max(value, 0), most);
}
