// The engine in a thread of its own, so that the page stays responsive.

import { Engine, pixelsOf } from "./engine.js";

const canvas = new OffscreenCanvas(1, 1);
const opened = Engine.open();

opened.then(
  ({ facts }) => postMessage({ type: "ready", facts }),
  (error) => postMessage({ type: "error", text: error.message }),
);

onmessage = async ({ data: { bitmap, isStill, isFirst, flipTest } }) => {
  try {
    const engine = await opened;
    if (isFirst) engine.restart();
    const begin = performance.now();
    const image = pixelsOf(bitmap, canvas);
    const persons = await (isStill ? engine.find(image, flipTest) : engine.track(image, flipTest));
    const ms = performance.now() - begin;
    postMessage({ type: "poses", bitmap, persons, ms }, [bitmap]);
  } catch (error) {
    postMessage({ type: "error", text: error.message });
  }
};
