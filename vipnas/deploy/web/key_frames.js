// When a person has a key frame, by the rules of vipnas/evaluation/key_frames.py.

export class Schedule {
  /** @param facts model.json. */
  constructor(facts) {
    this.numFollowUps = facts.num_follow_ups;
    this.rule = facts.header.key_frames;
    this.viewSize = facts.key_frame_view_hw;
  }

  /** Return the frames since the key frame, 0 for a key frame.
   *
   * @param memory {distance, score, keyView} of the previous frame; null brings a key frame.
   * @param view `view` of the crop in this frame.
   */
  distance(memory, view) {
    if (memory === null || this.numFollowUps === 0) return 0;
    const following = memory.distance + 1;
    if (this.rule === null) return following % (this.numFollowUps + 1);
    if (following >= this.rule.max_interval) return 0;
    const need = this.rule.trigger === "score" ? 1 - memory.score : change(memory.keyView, view);
    return need > this.rule.threshold ? 0 : following;
  }

  /** Return which network runs: 0 for that of key frames; the others run in turn. */
  network(distance) {
    return distance === 0 ? 0 : ((distance - 1) % this.numFollowUps) + 1;
  }

  /** Return the means of a crop (H, W, 3) over cells, in 0..1, where the trigger needs them. */
  view(crop, [height, width]) {
    if (this.rule?.trigger !== "change") return null;
    const [numRows, numColumns] = this.viewSize;
    const view = [];
    for (let row = 0; row < numRows; row++) {
      const [top, bottom] = cell(row, numRows, height);
      for (let column = 0; column < numColumns; column++) {
        const [left, right] = cell(column, numColumns, width);
        const sums = [0, 0, 0];
        for (let y = top; y < bottom; y++) {
          for (let place = (y * width + left) * 3; place < (y * width + right) * 3; place++) {
            sums[place % 3] += crop[place];
          }
        }
        const number = 255 * (bottom - top) * (right - left);
        view.push(...sums.map((sum) => sum / number));
      }
    }
    return view;
  }
}

/** Return the first pixel of a cell and the one after its last, as in adaptive pooling. */
function cell(index, number, length) {
  return [Math.floor((index * length) / number), Math.ceil(((index + 1) * length) / number)];
}

function change(before, now) {
  return now.reduce((sum, value, place) => sum + Math.abs(value - before[place]), 0) / now.length;
}
