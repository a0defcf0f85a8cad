// Crops of images, by the rule and with the pixels of vipnas/data/crops.
//
// Images are {data, width, height}, RGBA. Boxes are [left, top, right, bottom] in pixels of the
// image. A view is {scaleX, scaleY, x, y}: input = image * scale + (x, y).

/** Return the view of a box, which is padded. With the aspect `extend` it first gets the aspect
 * ratio of the span, with `stretch` the crop does. */
export function cropView([left, top, right, bottom], [spanHeight, spanWidth], padding, aspect) {
  const width = right - left;
  const height = bottom - top;
  const extended = spanWidth / (Math.max(width, (height * spanWidth) / spanHeight) * padding);
  const isStretched = aspect === "stretch";
  const scaleX = isStretched ? spanWidth / (width * padding) : extended;
  const scaleY = isStretched ? spanHeight / (height * padding) : extended;
  return {
    scaleX,
    scaleY,
    x: spanWidth / 2 - scaleX * (left + width / 2),
    y: spanHeight / 2 - scaleY * (top + height / 2),
  };
}

/** Fill a crop, RGB, row by row. It is black outside of the image. */
export function cropInto(crop, { data, width: imageWidth, height: imageHeight }, view, hw) {
  const [height, width] = hw;
  const columns = samples(width, imageWidth, (column) => (column - view.x) / view.scaleX);
  const rows = samples(height, imageHeight, (row) => (row - view.y) / view.scaleY);
  let place = 0;
  for (let row = 0; row < height; row++) {
    const first = rows.before[row] * imageWidth * 4;
    const second = rows.after[row] * imageWidth * 4;
    const above = rows.beforeWeight[row];
    const below = rows.afterWeight[row];
    for (let column = 0; column < width; column++) {
      const left = columns.before[column] * 4;
      const right = columns.after[column] * 4;
      const leftWeight = columns.beforeWeight[column];
      const rightWeight = columns.afterWeight[column];
      for (let channel = 0; channel < 3; channel++) {
        const upperLeft = data[first + left + channel] * leftWeight;
        const upper = upperLeft + data[first + right + channel] * rightWeight;
        const lowerLeft = data[second + left + channel] * leftWeight;
        const lower = lowerLeft + data[second + right + channel] * rightWeight;
        crop[place++] = upper * above + lower * below + 0.5;
      }
    }
  }
}

/** Return an image in the size of an input, and its view: see `fit_image` of onnx_detector.py. */
export function fitImage(image, [inputHeight, inputWidth], fit, fill) {
  const scale = Math.min(inputHeight / image.height, inputWidth / image.width);
  const isWhole = fit === "resize";
  const width = isWhole ? inputWidth : Math.max(1, roundHalfToEven(image.width * scale));
  const height = isWhole ? inputHeight : Math.max(1, roundHalfToEven(image.height * scale));
  const x = fit === "letterbox" ? Math.floor((inputWidth - width) / 2) : 0;
  const y = fit === "letterbox" ? Math.floor((inputHeight - height) / 2) : 0;
  const fitted = new Uint8Array(inputHeight * inputWidth * 3).fill(fill);
  resizeInto(fitted, inputWidth, x, y, image, width, height);
  return { fitted, view: { scaleX: width / image.width, scaleY: height / image.height, x, y } };
}

/** Resize by the fixed-point numbers of OpenCV, so that every pixel is equal. */
function resizeInto(target, targetWidth, x, y, image, width, height) {
  const { data } = image;
  const columns = resizeSamples(width, image.width);
  const rows = resizeSamples(height, image.height);
  for (let row = 0; row < height; row++) {
    const first = rows.before[row] * image.width * 4;
    const second = rows.after[row] * image.width * 4;
    const above = rows.beforeWeight[row];
    const below = rows.afterWeight[row];
    let place = ((y + row) * targetWidth + x) * 3;
    for (let column = 0; column < width; column++) {
      const left = columns.before[column] * 4;
      const right = columns.after[column] * 4;
      const leftWeight = columns.beforeWeight[column];
      const rightWeight = columns.afterWeight[column];
      for (let channel = 0; channel < 3; channel++) {
        const upperLeft = data[first + left + channel] * leftWeight;
        const upper = upperLeft + data[first + right + channel] * rightWeight;
        const lowerLeft = data[second + left + channel] * leftWeight;
        const lower = lowerLeft + data[second + right + channel] * rightWeight;
        const sum = ((above * (upper >> 4)) >> 16) + ((below * (lower >> 4)) >> 16);
        target[place++] = (sum + 2) >> 2;
      }
    }
  }
}

/** Return the samples of an axis of a resized image, with weights in 2048ths. */
function resizeSamples(length, size) {
  const placeOf = (sample) => Math.fround(((sample + 0.5) * size) / length - 0.5);
  const clamped = (sample) => Math.min(Math.max(placeOf(sample), 0), size - 1);
  const found = samples(length, size, clamped);
  for (const weights of [found.beforeWeight, found.afterWeight]) {
    weights.forEach((weight, sample) => (weights[sample] = Math.round(weight * 2048)));
  }
  return found;
}

/** Return a place of the input, in pixels of the image. */
export function toImage(view, x, y) {
  return [(x - view.x) / view.scaleX, (y - view.y) / view.scaleY];
}

/** Return the affine, row by row, by which a follow-up network warps the heatmaps of the previous
 * view: see `heatmap_warp` of geometry.py. */
export function heatmapWarp(before, now, [strideX, strideY], [height, width]) {
  const axis = (scaleBefore, placeBefore, scaleNow, placeNow, stride, size) => {
    const [scale, offset] = [(stride * size) / 2, (stride * (size - 1)) / 2];
    const linear = scaleBefore / scaleNow;
    return [linear, (linear * (offset - placeNow) + placeBefore - offset) / scale];
  };
  const [xx, x] = axis(before.scaleX, before.x, now.scaleX, now.x, strideX, width);
  const [yy, y] = axis(before.scaleY, before.y, now.scaleY, now.y, strideY, height);
  return [xx, 0, x, 0, yy, y];
}

/** Mirror crops, RGB, left to right; with `shift`, x becomes width - x, as in training. */
export function mirrored(crops, width, shift) {
  const found = new Uint8Array(crops.length);
  for (let row = 0; row < crops.length; row += width * 3) {
    for (let column = 0; column < width; column++) {
      const from = row + (width - 1 - (shift ? Math.max(column - 1, 0) : column)) * 3;
      found.set(crops.subarray(from, from + 3), row + column * 3);
    }
  }
  return found;
}

/** Return the two pixels of an axis between which each sample lies, and their weights: 0 beyond
 * the image. */
function samples(length, size, placeOf) {
  const found = {
    before: new Int32Array(length),
    after: new Int32Array(length),
    beforeWeight: new Float64Array(length),
    afterWeight: new Float64Array(length),
  };
  const clamped = (pixel) => Math.min(Math.max(pixel, 0), size - 1);
  for (let sample = 0; sample < length; sample++) {
    const place = placeOf(sample);
    const pixel = Math.floor(place);
    const share = place - pixel;
    found.before[sample] = clamped(pixel);
    found.after[sample] = clamped(pixel + 1);
    found.beforeWeight[sample] = pixel === clamped(pixel) ? 1 - share : 0;
    found.afterWeight[sample] = pixel + 1 === clamped(pixel + 1) ? share : 0;
  }
  return found;
}

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
