// All that a page computes: the models, and who is followed. It needs no document.

import { Detector } from "./detector.js";
import { Follower, wholeImage } from "./following.js";
import { PoseNetwork } from "./network.js";

export class Engine {
  /** Open the models in the folder of this file. */
  static async open() {
    const ort = await import("./onnxruntime-web/ort.wasm.bundle.min.js");
    const wasm = new URL("./onnxruntime-web/ort-wasm-simd-threaded.wasm", import.meta.url).href;
    ort.env.wasm.wasmPaths = { wasm };
    // Threads need headers that static servers do not send.
    const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(cores, 4) : 1;
    const load = async (name) => {
      const answer = await fetch(new URL(name, import.meta.url));
      if (!answer.ok) throw new Error(`${name}: expected a file, got ${answer.status}`);
      return answer;
    };
    const facts = await (await load("./model.json")).json();
    const session = async (name) =>
      ort.InferenceSession.create(await (await load(name)).arrayBuffer());
    const networks = [await session("./network.onnx")];
    for (let number = 1; number <= facts.num_follow_ups; number++) {
      networks.push(await session(`./follow_up_${number}.onnx`));
    }
    const decoder = await session("./decoder.onnx");
    const flipMean = await session("./flip_mean.onnx");
    const detector = facts.detector && new Detector(ort, await session("./detector.onnx"), facts.detector);
    return new Engine(facts, new PoseNetwork(ort, networks, decoder, flipMean, facts), detector);
  }

  constructor(facts, network, detector) {
    this.facts = facts;
    this.network = network;
    this.detector = detector;
    this.restart();
  }

  /** Forget everybody who is followed: another video begins. */
  restart() {
    const detect = this.detector && ((image) => this.detector.detect(image));
    const predict = (image, boxes, memories) =>
      this.facts.num_follow_ups
        ? this.network.follow(image, boxes, memories)
        : this.network.predict(image, boxes, this.flipTest);
    this.follower = new Follower(this.facts, predict, detect);
  }

  /** Return the persons in the next frame of a video: {id, box, keypoints, scores}. The networks of
   * a clip run without the flip test. */
  async track(image, flipTest = false) {
    this.flipTest = flipTest;
    return this.follower.next(image);
  }

  /** Return the persons in an image by itself. Without a detector the image is one person. */
  async find(image, flipTest = true) {
    const found = this.detector ? await this.detector.detect(image) : wholeImage(image);
    const boxes = found.map(({ box }) => box);
    const poses = await this.network.predict(image, boxes, flipTest);
    return poses.map((pose, id) => ({ id, box: boxes[id], ...pose }));
  }
}

/** Return the pixels of an ImageBitmap: {data, width, height}, RGBA. */
export function pixelsOf(bitmap, canvas = new OffscreenCanvas(1, 1)) {
  const { width, height } = bitmap;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}
