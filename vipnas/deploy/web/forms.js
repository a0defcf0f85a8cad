// Output forms of detectors, as vipnas/deploy/detector_forms.py reads them.
//
// Outputs are tensors {data, dims}. Each form returns candidates {box, score}; boxes are [left, top,
// right, bottom] in pixels of the model's input.

const sigmoid = (values) => Array.from(values, (value) => 1 / (1 + Math.exp(-value)));
const ACTIVATIONS = { none: (values) => values, sigmoid, softmax };

export const FORMS = { yolox, yolov8, distances, boxes, end_to_end: endToEnd };

function yolox(outputs, { strides, decoded, activation }, inputHw, personClass) {
  const rows = rowsOf(only(outputs));
  const points = cells(inputHw, strides, 0);
  return rows.map((row, number) => {
    let [x, y, width, height] = row;
    if (!decoded) {
      const { x: left, y: top, stride } = points[number];
      [x, y] = [left + x * stride, top + y * stride];
      [width, height] = [Math.exp(width) * stride, Math.exp(height) * stride];
    }
    const scores = ACTIVATIONS[activation](row.slice(4));
    return { box: around(x, y, width, height), score: scores[0] * scores[1 + personClass] };
  });
}

function yolov8(outputs, { activation }, inputHw, personClass) {
  return columnsOf(only(outputs)).map((row) => ({
    box: around(row[0], row[1], row[2], row[3]),
    score: ACTIVATIONS[activation](row.slice(4))[personClass],
  }));
}

function distances(outputs, options, inputHw, personClass) {
  const { unit, strides, offset, num_classes: classes, activation } = options;
  const levels = strides.map((stride) => cells(inputHw, [stride], offset));
  const points = levels.flat();
  const [scores, sides] =
    outputs.length === 1
      ? split(mapRows(outputs[0], points.length), classes)
      : joined(levels.map((level) => pair(outputs, level.length, classes)));
  return points.map(({ x, y, stride }, number) => {
    let four = sides[number];
    if (unit === "bins") four = means(four);
    if (unit !== "pixels") four = four.map((side) => side * stride);
    return {
      box: [x - four[0], y - four[1], x + four[2], y + four[3]],
      score: ACTIVATIONS[activation](scores[number])[personClass],
    };
  });
}

function boxes(outputs, { columns, normalised, activation }, inputHw, personClass) {
  const places = outputs[0].dims[2] === 4 ? outputs : [outputs[1], outputs[0]];
  const scores = rowsOf(places[1]);
  return rowsOf(places[0]).map((row, number) => ({
    box: scaled(boxOf(named(columns, row)), normalised ? inputHw : [1, 1]),
    score: ACTIVATIONS[activation](scores[number])[personClass],
  }));
}

function endToEnd(outputs, { columns, normalised }, inputHw, personClass) {
  const most = Math.max(...outputs.map(({ dims }) => dims.length));
  const parts = outputs.map(({ data, dims }) =>
    inRows(data, dims.length === most ? dims[dims.length - 1] : 1),
  );
  return parts[0]
    .map((_, number) => named(columns, parts.map((rows) => rows[number]).flat()))
    .filter((values) => Math.abs((values.class ?? personClass) - personClass) < 1e-3)
    .map((values) => ({
      box: scaled(boxOf(values), normalised ? inputHw : [1, 1]),
      score: values.score,
    }));
}

/** Return the points of all cells, level by level and row by row; `offset` is in strides. */
export function cells([height, width], strides, offset) {
  return strides.flatMap((stride) => {
    const columns = Math.ceil(width / stride);
    return Array.from({ length: Math.ceil(height / stride) * columns }, (_, number) => ({
      x: ((number % columns) + offset) * stride,
      y: (Math.floor(number / columns) + offset) * stride,
      stride,
    }));
  });
}

/** Return scores and distances of a level: the two outputs of so many cells, in any order. */
function pair(outputs, count, classes) {
  const found = outputs.map((output) => mapRows(output, count)).filter((rows) => rows !== null);
  if (found.length !== 2) throw new Error(`detector: expected two outputs of ${count} cells`);
  const isScores = (rows) => rows[0].length === classes;
  const isFirst = isScores(found[0]) && !(isScores(found[1]) && found[1][0].length > 4);
  return isFirst ? found : found.reverse();
}

function split(rows, classes) {
  return [rows.map((row) => row.slice(0, classes)), rows.map((row) => row.slice(classes))];
}

function joined(pairs) {
  return [pairs.flatMap(([scores]) => scores), pairs.flatMap(([, sides]) => sides)];
}

/** Return (cells, channels) of an output of so many cells; null for another. */
function mapRows(output, count) {
  const { dims } = output;
  if (dims.length === 4 && dims[2] * dims[3] === count) {
    return columnsOf({ data: output.data, dims: [1, dims[1], count] });
  }
  return dims.length === 3 && dims[1] === count ? rowsOf(output) : null;
}

/** Return the mean of each of four distributions over 0, 1, 2 ... */
function means(values) {
  const bins = values.length / 4;
  return [0, 1, 2, 3].map((side) =>
    softmax(values.slice(side * bins, (side + 1) * bins)).reduce(
      (sum, share, bin) => sum + share * bin,
      0,
    ),
  );
}

function softmax(values) {
  const largest = Math.max(...values);
  const powers = Array.from(values, (value) => Math.exp(value - largest));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

function only(outputs) {
  if (outputs.length !== 1) throw new Error("detector: expected one output");
  return outputs[0];
}

function rowsOf({ data, dims }) {
  return inRows(data, dims[2]);
}

function columnsOf({ data, dims }) {
  const [, channels, count] = dims;
  return Array.from({ length: count }, (_, cell) =>
    Array.from({ length: channels }, (_, channel) => Number(data[channel * count + cell])),
  );
}

function inRows(data, length) {
  return Array.from({ length: data.length / length }, (_, row) =>
    Array.from(data.subarray(row * length, (row + 1) * length), Number),
  );
}

function named(columns, row) {
  return Object.fromEntries(columns.map((column, place) => [column, row[place]]));
}

function boxOf({ left, top, right, bottom, centre_x: x, centre_y: y, width, height }) {
  return left === undefined ? around(x, y, width, height) : [left, top, right, bottom];
}

function around(x, y, width, height) {
  return [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
}

function scaled([left, top, right, bottom], [height, width]) {
  return [left * width, top * height, right * width, bottom * height];
}
