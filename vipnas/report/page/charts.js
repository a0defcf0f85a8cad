/* Charts: uPlot draws axes and zooms; series, legend and the text under the pointer are here. */
"use strict";
const Charts = (() => {
  const NEAR_PX = 24, HEIGHT_PX = 290, MARGIN = 0.06;
  const tooltip = document.getElementById("tooltip");
  const shown = [];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ratio = () => window.devicePixelRatio || 1;

  /* Tick labels: short, without trailing zeros. */
  const number = (value) => Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
    ? value.toExponential(0).replace("e+", "e") : String(Number(value.toPrecision(5)));

  function shape(path, symbol, x, y, radius) {
    if (symbol === "diamond") {
      path.moveTo(x, y - radius); path.lineTo(x + radius, y);
      path.lineTo(x, y + radius); path.lineTo(x - radius, y); path.closePath();
    } else if (symbol === "star") {
      for (let corner = 0; corner < 10; corner++) {
        const angle = Math.PI * (corner / 5 - 0.5), reach = corner % 2 ? 0.45 * radius : radius;
        path[corner ? "lineTo" : "moveTo"](x + reach * Math.cos(angle), y + reach * Math.sin(angle));
      }
      path.closePath();
    } else {
      path.moveTo(x + radius, y); path.arc(x, y, radius, 0, 2 * Math.PI);
    }
  }

  function drawPoints(u, series, toX, toY) {
    const path = new Path2D(), radius = series.size_px / 2 * ratio();
    series.x.forEach((x, i) => series.y[i] !== null && shape(path, series.symbol, toX(x), toY(series.y[i]), radius));
    if (series.symbol === "ring") {
      u.ctx.lineWidth = 1.2 * ratio(); u.ctx.stroke(path);
    } else {
      u.ctx.fill(path);
      if (series.symbol !== "circle") { u.ctx.strokeStyle = colour("--back"); u.ctx.lineWidth = ratio(); u.ctx.stroke(path); }
    }
  }

  function drawLine(u, series, toX, toY) {
    const path = new Path2D();
    let before = null;
    series.x.forEach((x, i) => {
      if (series.y[i] === null) { before = null; return; }
      const at = [toX(x), toY(series.y[i])];
      if (before === null) { path.moveTo(...at); }
      else { if (series.kind === "step") path.lineTo(at[0], before[1]); path.lineTo(...at); }
      before = at;
    });
    if (series.kind === "step" && before !== null) path.lineTo(u.bbox.left + u.bbox.width, before[1]);
    u.ctx.lineWidth = series.size_px * ratio();
    u.ctx.setLineDash(series.dashed ? [5 * ratio(), 4 * ratio()] : []);
    u.ctx.stroke(path);
  }

  const painter = (series) => (u) => {
    const toX = (x) => u.valToPos(x, "x", true), toY = (y) => u.valToPos(y, "y", true);
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    u.ctx.strokeStyle = u.ctx.fillStyle = colour(series.colour);
    u.ctx.globalAlpha = series.faint ? 0.45 : 1;
    (series.kind === "points" ? drawPoints : drawLine)(u, series, toX, toY);
    u.ctx.restore();
    return null;
  };

  function drawMarks(u, marks) {
    u.ctx.save();
    u.ctx.strokeStyle = u.ctx.fillStyle = colour("--soft");
    u.ctx.font = `${11 * ratio()}px system-ui, sans-serif`;
    u.ctx.textAlign = "right";
    u.ctx.setLineDash([3 * ratio(), 3 * ratio()]);
    for (const mark of marks) {
      const x = u.valToPos(mark.x, "x", true);
      if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
      u.ctx.beginPath(); u.ctx.moveTo(x, u.bbox.top); u.ctx.lineTo(x, u.bbox.top + u.bbox.height); u.ctx.stroke();
      u.ctx.save();
      u.ctx.translate(x - 4 * ratio(), u.bbox.top + 4 * ratio()); u.ctx.rotate(-Math.PI / 2);
      u.ctx.fillText(mark.label, 0, 0);
      u.ctx.restore();
    }
    u.ctx.restore();
  }

  /* The nearest visible point with its series, or null. */
  function nearest(u, chart) {
    let found = null, best = NEAR_PX ** 2;
    chart.series.forEach((series, s) => {
      if (!u.series[s + 1].show || (series.kind !== "points" && series.x.length > 1 && chart.hasPoints)) return;
      series.x.forEach((x, i) => {
        if (series.y[i] === null) return;
        const dx = u.valToPos(x, "x") - u.cursor.left, dy = u.valToPos(series.y[i], "y") - u.cursor.top;
        const distance = dx * dx + dy * dy;
        if (distance <= best) { best = distance; found = { series, i }; }
      });
    });
    return found;
  }

  function point(u, chart, texts) {
    const found = u.cursor.left < 0 ? null : nearest(u, chart);
    u.ring.hidden = tooltip.hidden = found === null;
    if (found === null) return;
    const { series, i } = found, x = series.x[i], y = series.y[i];
    const left = u.valToPos(x, "x"), top = u.valToPos(y, "y");
    u.ring.style.transform = `translate(${left - 8}px, ${top - 8}px)`;
    tooltip.textContent = series.texts ? texts[series.texts][i]
      : `${series.name}\n${chart.x_label}: ${number(x)}\n${chart.y_label}: ${number(y)}`;
    const box = u.over.getBoundingClientRect(), width = tooltip.offsetWidth, height = tooltip.offsetHeight;
    const at = box.left + left, beside = at + 14 + width < innerWidth ? at + 14 : at - 14 - width;
    tooltip.style.left = `${Math.max(6, Math.min(beside, innerWidth - width - 6))}px`;
    tooltip.style.top = `${Math.max(6, Math.min(box.top + top - height / 2, innerHeight - height - 6))}px`;
  }

  function extent(chart, axis) {
    const values = chart.series.flatMap((series) => series[axis].filter((value) => value !== null));
    if (axis === "x") values.push(...chart.marks.map((mark) => mark.x));
    let low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!Number.isFinite(low)) return [0, 1];
    if (low === high && low === 0) high = 1;
    if (axis === "y" && chart.log_y) return high > low ? [low / 1.15, high * 1.15] : [low / 2, high * 2];
    const margin = (high > low ? high - low : Math.abs(high) || 1) * MARGIN;
    return [low >= 0 ? Math.max(low - margin, -margin / 2) : low - margin, high + margin];
  }

  function symbolOf(series) {
    const ring = series.symbol === "ring", line = series.kind !== "points";
    const shapes = { diamond: "<path d='M6 1 11 6 6 11 1 6Z'/>", star: "<path d='M6 0 7.6 4.2 12 4.4 8.5 7.2 9.7 11.6 6 9 2.3 11.6 3.5 7.2 0 4.4 4.4 4.2Z'/>" };
    const inner = line ? `<path d='M0 6H12' stroke='currentColor' stroke-width='2.5'${series.dashed ? " stroke-dasharray='3 2'" : ""}/>`
      : shapes[series.symbol] || `<circle cx='6' cy='6' r='4' ${ring ? "fill='none' stroke='currentColor' stroke-width='1.5'" : ""}/>`;
    return `<svg width='12' height='12' viewBox='0 0 12 12' fill='currentColor'>${inner}</svg>`;
  }

  function legend(u, chart) {
    const box = document.createElement("div");
    box.className = "legend";
    const named = new Map();
    chart.series.forEach((series, s) => {
      if (series.x.length) named.set(series.name, [...(named.get(series.name) || []), s]);
    });
    for (const [name, numbers] of named) {
      const series = chart.series[numbers[0]];
      const entry = document.createElement("button"), symbol = document.createElement("i");
      entry.type = "button";
      entry.setAttribute("aria-pressed", "true");
      symbol.style.color = `var(${series.colour})`;
      symbol.innerHTML = symbolOf(series);
      entry.append(symbol, name);
      entry.addEventListener("click", () => {
        const show = !u.series[numbers[0] + 1].show;
        u.batch(() => numbers.forEach((s) => u.setSeries(s + 1, { show })));
        entry.setAttribute("aria-pressed", String(show));
      });
      box.append(entry);
    }
    return box;
  }

  function axis(label, isWhole, size) {
    return {
      ...(isWhole ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6] } : {}),
      label, labelSize: 22, labelFont: "12px system-ui, sans-serif", font: "11px system-ui, sans-serif",
      stroke: () => colour("--soft"), grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false },
      values: (u, ticks) => ticks.map((tick) => tick === null ? "" : number(tick)), size,
    };
  }

  function draw(figure, chart, texts) {
    chart.hasPoints = chart.series.some((series) => series.kind === "points");
    const limits = { x: extent(chart, "x"), y: extent(chart, "y") };
    /* A zoom sets both limits; without one, and after a double click, all is shown. */
    const range = (u, low, high, scale) => u.zoomed ? [low, high] : limits[scale];
    const u = new uPlot({
      mode: 2, width: figure.clientWidth, height: HEIGHT_PX, legend: { show: false },
      cursor: { drag: { x: true, y: true, uni: 20 }, points: { show: false }, dataIdx: () => null },
      scales: { x: { time: false, range }, y: { range, distr: chart.log_y ? 3 : 1 } },
      axes: [axis(chart.x_label, chart.whole_x, 34), axis(chart.y_label, false, 58)],
      series: [null, ...chart.series.map((series) => ({ label: series.name, stroke: colour(series.colour), paths: painter(series), points: { show: false } }))],
      hooks: {
        drawClear: [(self) => self.series.forEach((series, s) => { if (s) series._paths = null; })],
        draw: [(self) => drawMarks(self, chart.marks)],
        setSelect: [(self) => { self.zoomed = self.select.width > 0 || self.select.height > 0; }],
        setCursor: [(self) => point(self, chart, texts)],
      },
    }, [null, ...chart.series.map((series) => [series.x, series.y])], figure);
    u.ring = document.createElement("div");
    u.ring.className = "ring";
    u.ring.hidden = true;
    u.over.append(u.ring);
    u.over.addEventListener("dblclick", () => { u.zoomed = false; }, true);
    u.over.addEventListener("mouseleave", () => { u.ring.hidden = tooltip.hidden = true; });
    figure.append(legend(u, chart));
    shown.push({ u, figure });
  }

  /* Draws every chart when it first comes near the screen, and those left before printing. */
  function drawAll() {
    const waiting = new Map();
    const drawOnce = (figure) => {
      if (!waiting.has(figure)) return;
      draw(figure, ...waiting.get(figure));
      waiting.delete(figure);
      watch.unobserve(figure);
    };
    const watch = new IntersectionObserver((entries) => {
      entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawOnce(entry.target));
    }, { rootMargin: "300px" });
    addEventListener("beforeprint", () => [...waiting.keys()].filter((one) => one.clientWidth).forEach(drawOnce));
    for (const block of document.querySelectorAll(".charts")) {
      const { charts, texts } = JSON.parse(block.querySelector("script").textContent);
      block.querySelectorAll(".chart").forEach((figure, i) => { waiting.set(figure, [charts[i], texts]); watch.observe(figure); });
    }
    const sizes = new ResizeObserver(() => shown.forEach(({ u, figure }) => {
      if (figure.clientWidth && figure.clientWidth !== u.width) u.setSize({ width: figure.clientWidth, height: HEIGHT_PX });
    }));
    sizes.observe(document.body);
  }

  return { drawAll, redraw: () => shown.forEach(({ u }) => u.redraw(false, true)), shown };
})();
