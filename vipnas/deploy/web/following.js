// Persons from frame to frame, by the rules of vipnas/deploy/following.py and evaluation/tracker.py.

const NEW = -1;

/** Follow the persons of a video: boxes from a detector at intervals, from poses in between. */
export class Follower {
  /**
   * @param facts model.json.
   * @param predict (image, boxes, memories) to the poses in them; `memory` is that of the previous
   *   pose, null for a key frame.
   * @param detect Image to {box, score} of persons; null looks at the whole image where nobody is followed.
   */
  constructor(facts, predict, detect = null) {
    this.rule = facts.following;
    this.sigmas = facts.header.skeleton.sigmas;
    this.predict = predict;
    this.detect = detect;
    this.tracks = new Tracks(facts.tracking, this.sigmas);
    this.people = [];
    this.framesSince = 0;
    this.numFollowed = 0;
  }

  /** Return the persons of the next frame: {id, box, keypoints, scores}. */
  async next(image) {
    // Who was dropped may be found again at once.
    const isDropped = this.people.length < this.numFollowed;
    const isDue = this.framesSince >= this.rule.detect_every || isDropped;
    this.framesSince++;
    if (this.people.length === 0 || (this.detect !== null && isDue)) {
      this.people = this.detected(this.people, await (this.detect ?? wholeImage)(image));
      this.framesSince = 1;
    }
    this.numFollowed = this.people.length;
    const boxes = this.people.map((person) => person.box);
    const memories = this.people.map((person) => person.memory ?? null);
    const poses = await this.predict(image, boxes, memories);
    const shown = this.people.map((person, row) => ({ ...person, ...poses[row], before: person }));
    const kept = this.distinct(shown);
    this.tracks.update(kept);
    this.people = kept
      .map((person) => this.followed(person))
      .filter((person) => this.isFollowed(person, image));
    return kept.map(({ id, box, keypoints, scores }) => ({ id, box, keypoints, scores }));
  }

  /** Return those followed, in the boxes that were detected, and those born. */
  detected(people, found) {
    const large = found.filter(({ box }) => isLarge(box, this.rule.least_side_px));
    const ious = people.map((person) => large.map(({ box }) => iou(person.box, box)));
    const matched = new Map(bestPairs(ious, this.rule.min_iou));
    const followed = people.map((person, row) =>
      matched.has(row)
        ? { ...person, box: large[matched.get(row)].box, missedDetections: 0 }
        : { ...person, missedDetections: person.missedDetections + 1 },
    );
    const taken = new Set(matched.values());
    const born = large
      .filter(({ score }, column) => !taken.has(column) && score >= this.rule.min_birth_score)
      .map(({ box }) => ({ id: NEW, box, keypoints: null, lostFrames: 0, missedDetections: 0 }));
    const isKept = (person) => person.missedDetections <= this.rule.max_missed_detections;
    return [...followed.filter(isKept), ...born];
  }

  /** Of two with one pose the one who moved less stays: the other jumped onto that person. */
  distinct(shown) {
    const similarity = (one, other) =>
      oks(one.keypoints, area(one.box), other.keypoints, area(other.box), this.sigmas);
    const ranks = shown.map((person) =>
      person.before.keypoints === null
        ? -1
        : similarity(person, { ...person, keypoints: person.before.keypoints }),
    );
    const order = shown.map((_, row) => row).sort((one, other) => ranks[other] - ranks[one]);
    const kept = [];
    for (const row of order) {
      const isSame = (other) => similarity(shown[row], shown[other]) > this.rule.max_similarity;
      if (!kept.some(isSame)) kept.push(row);
    }
    return kept.sort((one, other) => one - other).map((row) => shown[row]);
  }

  /** Return the person with the box in the next frame: around the joints that were found. */
  followed({ id, box, keypoints, scores, memory, lostFrames, missedDetections }) {
    const { min_joint_score: least, least_joints: enough, pose_box_padding: padding } = this.rule;
    const found = keypoints.filter((_, joint) => scores[joint] > least);
    if (found.length < Math.min(enough, keypoints.length)) {
      return { id, box, keypoints, memory: null, lostFrames: lostFrames + 1, missedDetections };
    }
    const sides = [0, 1].map((axis) => {
      const places = found.map((place) => place[axis]);
      const [low, high] = [Math.min(...places), Math.max(...places)];
      const half = (Math.max(high - low, 1) * padding) / 2;
      return [(low + high) / 2 - half, (low + high) / 2 + half];
    });
    const [[left, right], [top, bottom]] = sides;
    const next = [left, top, right, bottom];
    return { id, box: next, keypoints, memory, lostFrames: 0, missedDetections };
  }

  isFollowed({ box: [left, top, right, bottom], lostFrames }, { width, height }) {
    const [x, y] = [(left + right) / 2, (top + bottom) / 2];
    const isInside = x >= 0 && x <= width && y >= 0 && y <= height;
    const side = Math.max(right - left, bottom - top);
    return isInside && lostFrames <= this.rule.max_lost_frames && side >= this.rule.least_side_px;
  }
}

/** Give persons their track ids, from 0. */
class Tracks {
  constructor(rule, sigmas) {
    this.rule = rule;
    this.sigmas = sigmas;
    this.tracks = new Map();
    this.count = 0;
  }

  /** Set the ids of the persons of the next frame, in place. */
  update(persons) {
    const { max_gap: gap, max_absence: absence, min_reentry_iou: reentry } = this.rule;
    this.match(persons, 0, gap, this.similarity.bind(this), this.rule.min_similarity);
    this.match(persons, gap + 1, absence, (one, other) => iou(one.box, other.box), reentry);
    for (const person of persons) if (person.id === NEW) person.id = this.count++;
    for (const [id, track] of this.tracks) if (++track.age > absence) this.tracks.delete(id);
    for (const { id, box, keypoints, scores } of persons) {
      this.tracks.set(id, { box, keypoints, scores, age: 0 });
    }
  }

  match(persons, youngest, oldest, similarity, least) {
    const waiting = persons.filter((person) => person.id === NEW);
    const taken = new Set(persons.map((person) => person.id));
    const free = [...this.tracks].filter(
      ([id, { age }]) => age >= youngest && age <= oldest && !taken.has(id),
    );
    const table = waiting.map((person) => free.map(([, track]) => similarity(person, track)));
    for (const [row, column] of optimalPairs(table, least)) waiting[row].id = free[column][0];
  }

  similarity(one, other) {
    const { min_joint_score: least, oks_weight: weight } = this.rule;
    const isSeen = one.scores.map((score, joint) => score >= least && other.scores[joint] >= least);
    const areas = [area(one.box), area(other.box)];
    const alike = oks(one.keypoints, areas[0], other.keypoints, areas[1], this.sigmas, isSeen);
    return weight * alike + (1 - weight) * iou(one.box, other.box);
  }
}

/** Return one person, who fills the image. */
export function wholeImage({ width, height }) {
  return [{ box: [0, 0, width, height], score: 1 }];
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}

function isLarge([left, top, right, bottom], leastSide) {
  const [width, height] = [right - left, bottom - top];
  return width > 0 && height > 0 && Math.max(width, height) >= leastSide;
}

/** Return the intersection over union of two boxes. */
export function iou(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const common = Math.max(width, 0) * Math.max(height, 0);
  return common / Math.max(area(one) + area(other) - common, 1e-9);
}

/** Return the object keypoint similarity of two poses; `counted` says which joints count. */
export function oks(one, oneArea, other, otherArea, sigmas, counted = null) {
  const scale = (oneArea + otherArea) / 2 + Number.EPSILON;
  let sum = 0;
  let number = 0;
  one.forEach(([x, y], joint) => {
    if (counted !== null && !counted[joint]) return;
    const square = (x - other[joint][0]) ** 2 + (y - other[joint][1]) ** 2;
    sum += Math.exp(-square / (2 * sigmas[joint]) ** 2 / scale / 2);
    number++;
  });
  return sum / Math.max(number, 1);
}

/** Return [row, column] of a table, the most similar pair first; each is in one pair at most. */
export function bestPairs(table, least) {
  const pairs = table
    .flatMap((values, row) => values.map((value, column) => ({ value, row, column })))
    .filter(({ value }) => value >= least)
    .sort((one, other) => other.value - one.value);
  const rows = new Set();
  const columns = new Set();
  const found = [];
  for (const { row, column } of pairs) {
    if (rows.has(row) || columns.has(column)) continue;
    rows.add(row);
    columns.add(column);
    found.push([row, column]);
  }
  return found;
}

/** Return [row, column] of the pairs whose values have the largest sum, by the Hungarian method with
 * potentials. Pairs of less than `least` do not count and are left out. */
export function optimalPairs(table, least) {
  const size = Math.max(table.length, ...table.map((values) => values.length));
  const value = (row, column) => table[row]?.[column] ?? 0;
  const cost = (row, column) => (value(row, column) >= least ? -value(row, column) : 0);
  // Numbers from 1; column 0 holds the row that looks for a column.
  const rowOf = new Int32Array(size + 1);
  const [rows, columns] = [new Float64Array(size + 1), new Float64Array(size + 1)];
  for (let row = 1; row <= size; row++) {
    const slack = new Float64Array(size + 1).fill(Infinity);
    const before = new Int32Array(size + 1);
    const isReached = new Uint8Array(size + 1);
    rowOf[0] = row;
    let column = 0;
    while (rowOf[column]) {
      isReached[column] = 1;
      const from = rowOf[column];
      let next = 0;
      for (let other = 1; other <= size; other++) {
        if (isReached[other]) continue;
        const reduced = cost(from - 1, other - 1) - rows[from] - columns[other];
        if (reduced < slack[other]) [slack[other], before[other]] = [reduced, column];
        if (!next || slack[other] < slack[next]) next = other;
      }
      const step = slack[next];
      for (let other = 0; other <= size; other++) {
        if (isReached[other]) {
          rows[rowOf[other]] += step;
          columns[other] -= step;
        } else slack[other] -= step;
      }
      column = next;
    }
    for (; column; column = before[column]) rowOf[column] = rowOf[before[column]];
  }
  return [...rowOf.keys()]
    .map((column) => [rowOf[column] - 1, column - 1])
    .filter(([row, column]) => column >= 0 && value(row, column) >= least);
}
