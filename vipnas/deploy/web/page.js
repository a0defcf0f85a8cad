// The page: where frames come from, what is shown, and the controls.

import { drawPoses, rgb } from "./draw.js";

const element = (id) => document.getElementById(id);
const [picture, file] = [element("picture"), element("file")];
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });

let facts = null;
// {kind: "camera" | "video" | "image"}; another object as soon as another source is chosen.
let source = null;
// The last answer of the worker, {bitmap, persons, ms}, and whether it is of a camera.
let shown = null;
let framesPerSecond = 0;

worker.onerror = (event) => complain(event.message ?? "the browser cannot run module workers");
worker.onmessage = ({ data }) => {
  if (data.type === "ready") ready(data.facts);
  else complain(`The model cannot be opened: ${data.text}`);
};

function ready(loaded) {
  facts = loaded;
  const [height, width] = facts.header.input.hw;
  const { joints, name } = facts.header.skeleton;
  const who = facts.detector ? "several persons" : "one person";
  const text = `${name}, ${joints.length} joints · ${height} × ${width} · ${who}`;
  const clip = `key frames, ${facts.num_follow_ups} follow-up frames after each`;
  element("model").textContent = facts.num_follow_ups ? `${text} · ${clip}` : text;
  for (const side of ["left", "right", "middle"]) {
    element(side).style.background = rgb(facts.drawing[side]);
  }
  element("unsure").textContent = facts.drawing.unsure_score;
  element("camera").disabled = element("open").disabled = false;
}

function complain(text) {
  const notice = element("notice");
  notice.textContent = text;
  notice.hidden = !text;
  if (facts === null) element("model").textContent = "";
}

let last = Promise.resolve();

/** Return the worker's answer for one frame; null after an error. */
function ask(bitmap, isFirst) {
  const request = {
    bitmap,
    isFirst,
    isStill: source.kind === "image",
    flipTest: element("flip").checked,
  };
  last = last.then(
    () =>
      new Promise((resolve) => {
        worker.onmessage = ({ data }) => {
          if (data.type === "error") complain(data.text);
          resolve(data.type === "poses" ? data : null);
        };
        worker.postMessage(request, [bitmap]);
      }),
  );
  return last;
}

// --- Sources ---

function begin(kind) {
  end();
  complain("");
  source = { kind };
  element("flip").checked = kind === "image";
  element("flip").parentElement.hidden = facts.num_follow_ups > 0 && kind !== "image";
  element("selfie").checked = false;
  element("selfie").parentElement.hidden = kind !== "camera";
  element("camera").textContent = kind === "camera" ? "Stop camera" : "Start camera";
  element("pause").hidden = kind !== "video";
  element("pause").textContent = "Pause";
  framesPerSecond = 0;
  return source;
}

function end() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.srcObject = null;
  source = null;
  element("camera").textContent = "Start camera";
  element("pause").hidden = element("cameras").hidden = true;
}

async function openCamera(deviceId) {
  const chosen = begin("camera");
  if (!navigator.mediaDevices) {
    end();
    complain("The browser gives cameras to pages of https:// and of localhost only.");
    return;
  }
  const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
  try {
    const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { ...wanted, ...size } });
  } catch (error) {
    end();
    complain(`Camera: ${error.message}`);
    return;
  }
  const { facingMode, deviceId: id } = video.srcObject.getVideoTracks()[0].getSettings();
  element("selfie").checked = facingMode !== "environment";
  await listCameras(id);
  await play(chosen);
}

async function listCameras(current) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter(({ kind }) => kind === "videoinput");
  element("cameras").hidden = cameras.length < 2;
  element("cameras").replaceChildren(
    ...cameras.map(
      ({ label, deviceId }, number) =>
        new Option(label || `Camera ${number + 1}`, deviceId, false, deviceId === current),
    ),
  );
}

async function openFile(chosen) {
  if (chosen.type.startsWith("video/")) {
    const begun = begin("video");
    Object.assign(video, { src: URL.createObjectURL(chosen), loop: true });
    await play(begun);
    return;
  }
  const begun = begin("image");
  begun.blob = chosen;
  await showImage();
}

async function showImage() {
  const begun = source;
  try {
    show(await ask(await createImageBitmap(begun.blob), true), begun);
  } catch {
    end();
    complain(`${begun.blob.name}: expected an image or a video that this browser can show.`);
  }
}

/** Show the frames of the video element until another source is chosen. */
async function play(begun) {
  try {
    await video.play();
  } catch (error) {
    if (source !== begun) return;
    end();
    complain(`The video cannot be played: ${error.message}`);
    return;
  }
  let [before, shownAt] = [Infinity, performance.now()];
  while (source === begun) {
    const time = await nextFrame();
    if (source !== begun) return;
    const isFirst = time < before;
    before = time;
    show(await ask(await createImageBitmap(video), isFirst), begun);
    const now = performance.now();
    const rate = 1000 / (now - shownAt);
    framesPerSecond = framesPerSecond ? 0.9 * framesPerSecond + 0.1 * rate : rate;
    shownAt = now;
  }
}

/** Return the time of the next frame of the video element, in seconds. */
function nextFrame() {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime));
    } else {
      requestAnimationFrame(() => resolve(video.currentTime));
    }
  });
}

// --- Picture ---

function show(answer, begun) {
  if (answer === null || source !== begun) return;
  shown?.bitmap.close();
  shown = { ...answer, isCamera: begun.kind === "camera" };
  document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
  document.body.dataset.persons = answer.persons.length;
  picture.hidden = element("numbers").hidden = element("save").hidden = false;
  element("empty").hidden = true;
  const isMoving = begun.kind !== "image";
  element("fps").textContent = isMoving && framesPerSecond ? framesPerSecond.toFixed(1) : "–";
  element("ms").textContent = answer.ms.toFixed(answer.ms < 10 ? 1 : 0);
  element("persons").textContent = answer.persons.length;
  element("unit").textContent = answer.persons.length === 1 ? "person" : "persons";
  draw();
}

function draw() {
  if (shown === null) return;
  const { bitmap, persons } = shown;
  const room = [element("stage").clientWidth, Math.max(0.7 * innerHeight, 240)];
  const fit = Math.min(room[0] / bitmap.width, room[1] / bitmap.height);
  const scale = fit * Math.min(devicePixelRatio, 2);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.round(side * scale));
  if (picture.width !== width || picture.height !== height) {
    Object.assign(picture, { width, height });
  }
  picture.style.width = `${bitmap.width * fit}px`;
  const context = picture.getContext("2d");
  const isTurned = shown.isCamera && element("selfie").checked;
  context.imageSmoothingQuality = "high";
  context.setTransform(isTurned ? -1 : 1, 0, 0, 1, isTurned ? width : 0, 0);
  context.drawImage(bitmap, 0, 0, width, height);
  context.resetTransform();
  drawPoses(context, isTurned ? persons.map(turned) : persons, scale, facts.drawing, {
    minScore: Number(element("score").value),
    showBoxes: element("boxes").checked,
  });
}

/** Return a person in the mirrored picture; left stays the person's left. */
function turned({ box: [left, top, right, bottom], keypoints, ...others }) {
  const { width } = shown.bitmap;
  return {
    ...others,
    box: [width - 1 - right, top, width - 1 - left, bottom],
    keypoints: keypoints.map(([x, y]) => [width - 1 - x, y]),
  };
}

// --- Controls ---

element("camera").onclick = () => (source?.kind === "camera" ? end() : openCamera());
element("cameras").onchange = ({ target }) => openCamera(target.value);
element("open").onclick = () => file.click();
file.onchange = () => {
  if (file.files.length) openFile(file.files[0]);
  file.value = "";
};
element("pause").onclick = ({ target }) => {
  if (video.paused) video.play();
  else video.pause();
  target.textContent = video.paused ? "Play" : "Pause";
};
element("save").onclick = () =>
  picture.toBlob((blob) => {
    const link = document.createElement("a");
    Object.assign(link, { href: URL.createObjectURL(blob), download: "poses.png" }).click();
    URL.revokeObjectURL(link.href);
  });
element("score").oninput = ({ target }) => {
  element("least").textContent = Number(target.value).toFixed(2);
  draw();
};
element("flip").onchange = () => source?.kind === "image" && showImage();
element("boxes").onchange = element("selfie").onchange = draw;
addEventListener("resize", draw);
addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
addEventListener("dragleave", () => element("stage").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  if (facts && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});
