// Poses drawn over a picture, as vipnas/viz/poses.py draws them.

/**
 * Draw persons {id, box, keypoints, scores} onto a canvas.
 *
 * @param scale Pixels of the canvas to a pixel of the image.
 * @param style `drawing` of model.json.
 * @param showBoxes Draw boxes and ids.
 */
export function drawPoses(context, persons, scale, style, { minScore, showBoxes }) {
  const { width, height } = context.canvas;
  const shown = persons
    .map((person) => new DrawnPerson(person, scale, minScore, Math.max(width, height)))
    .sort((one, other) => one.side - other.side);
  context.save();
  context.lineCap = "butt";
  for (const person of shown) {
    const colour = rgb(style.ids[person.id % style.ids.length]);
    if (showBoxes) drawBox(context, person.box, colour);
    drawPerson(context, person, style);
    if (showBoxes) drawId(context, person, colour);
  }
  context.restore();
}

class DrawnPerson {
  constructor({ id, box, keypoints, scores }, scale, minScore, largest) {
    this.id = id;
    // Whole numbers are centres of pixels.
    this.box = box.map((side) => (side + 0.5) * scale);
    this.places = keypoints.map((place) => place.map((side) => (side + 0.5) * scale));
    this.scores = scores;
    this.isDrawn = scores.map((score) => score >= minScore && score > 0);
    const drawn = this.places.filter((_, joint) => this.isDrawn[joint]);
    // A joint that was found far away does not make the person larger.
    const spans = [0, 1].map((axis) => {
      const sorted = drawn.map((place) => place[axis]).sort((one, other) => one - other);
      return drawn.length ? share(sorted, 0.9) - share(sorted, 0.1) : 0;
    });
    this.side = Math.min(1.25 * Math.max(...spans), largest);
  }
}

/** Draw the outlines of all limbs under the colours of all, so that limbs join. */
function drawPerson(context, person, style) {
  const { places, scores, isDrawn, side } = person;
  const line = clamp(style.line_share * side, style.line_px);
  const radius = clamp(style.radius_share * side, style.radius_px);
  const outline = clamp(style.outline_share * line, style.outline_px);
  const isSure = (joint) => scores[joint] > style.unsure_score;
  const limbs = style.limbs.filter(({ joints }) => joints.every((joint) => isDrawn[joint]));
  const widthOf = ({ joints, size }) =>
    Math.max(line * size * (joints.every(isSure) ? 1 : 0.5), style.line_px[0]);
  for (const more of [2 * outline, 0]) {
    for (const limb of limbs) {
      context.strokeStyle = more ? "#000" : rgb(limb.colour);
      context.lineWidth = widthOf(limb) + more;
      context.beginPath();
      for (const joint of limb.joints) context.lineTo(...places[joint]);
      context.stroke();
    }
  }
  style.joints.forEach(({ colour, size }, joint) => {
    if (!isDrawn[joint]) return;
    const least = isSure(joint) ? style.radius_px[0] : style.ring_px;
    const full = Math.max(radius * size, least);
    disc(context, places[joint], full + outline, "#000");
    disc(context, places[joint], full, rgb(colour));
    if (!isSure(joint)) disc(context, places[joint], full / 2, "#000");
  });
}

function drawBox(context, [left, top, right, bottom], colour) {
  const width = 1 + Math.round(Math.max(context.canvas.width, context.canvas.height) / 900);
  for (const [shade, thickness] of [["#000", width + 2], [colour, width]]) {
    context.strokeStyle = shade;
    context.lineWidth = thickness;
    context.strokeRect(left, top, right - left, bottom - top);
  }
}

function drawId(context, { id, box }, colour) {
  const height = clamp(0.08 * Math.max(box[2] - box[0], box[3] - box[1]), [14, 28]);
  context.font = `600 ${height}px system-ui, sans-serif`;
  context.lineJoin = "round";
  context.lineWidth = height / 4;
  context.strokeStyle = "#000";
  context.fillStyle = colour;
  const x = Math.max(box[0], 4);
  const y = box[1] - 6 < height ? box[1] + height : box[1] - 6;
  context.strokeText(id, x, y);
  context.fillText(id, x, y);
}

function disc(context, [x, y], radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

export function rgb(colour) {
  return `rgb(${colour.join(" ")})`;
}

function clamp(value, [least, most]) {
  return Math.min(Math.max(value, least), most);
}

/** Return the value of a sorted list below which a share of it lies, between two neighbours. */
function share(sorted, part) {
  const place = part * (sorted.length - 1);
  const before = Math.floor(place);
  const after = Math.min(before + 1, sorted.length - 1);
  return sorted[before] + (place - before) * (sorted[after] - sorted[before]);
}
