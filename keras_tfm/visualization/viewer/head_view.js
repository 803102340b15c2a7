// Lines from each token that attends to the tokens that it attends to, one colour a head.

const ROW_HEIGHT = 24;
const LINES_WIDTH = 300;
const MOST_LINES = 6000;
const OPACITIES = 16;

function makeHeadView(layer) {
  const lists = {
    query: makeTokenList(layer, "query", `Tokens that attend (${layer.sides.query})`),
    key: makeTokenList(layer, "key", `Tokens that are attended to (${layer.sides.key})`),
  };
  const canvas = element("canvas", { role: "img" });
  const heading = (side, says) => element("h2", { class: side, "aria-hidden": "true" }, `${layer.sides[side]} ${says}`);
  const columns = element(
    "div",
    { class: "columns" },
    ...[heading("query", "attends"), element("span"), heading("key", "is attended to")],
    ...[lists.query.element, element("div", { class: "lines" }, canvas), lists.key.element],
  );
  const box = element("div", { class: "scroll heads-box" }, columns);
  const view = {
    element: element("div", { class: "head-view" }, box),
    draw: (current) => {
      if (!view.layer && state.focus) lists[state.focus.side].items[state.focus.index].scrollIntoView({ block: "nearest" });
      view.layer = current;
      paintLists(current, lists);
      drawLines(current, canvas, box);
    },
  };
  box.addEventListener("scroll", () => drawLines(view.layer, canvas, box));
  return view;
}

function drawLines(layer, canvas, box) {
  const height = Math.min(box.clientHeight - ROW_HEIGHT, ROW_HEIGHT * Math.max(layer.numQueries, layer.numKeys));
  const width = canvas.parentElement.clientWidth || LINES_WIDTH;
  const context = fitCanvas(canvas, width, height);
  const seen = visibleLines(layer, box.scrollTop, height);
  const lowest = lowestLevel(seen.counts, Math.max(1, Math.ceil(state.threshold * LEVELS - 1e-6)));
  const drawn = strokeLines(context, layer, seen, lowest.level, width, box.scrollTop);
  Object.assign(canvas.dataset, { lines: drawn, weaker: lowest.left });
  canvas.setAttribute("aria-label", `${drawn} lines${lowest.left ? `; ${lowest.left} weaker ones are left out` : ""}`);
}

/** Which pairs have an end that is seen and belong to what is pointed at, and how many there are of each level. */
function visibleLines(layer, top, height) {
  const rows = (length) => [Math.max(0, Math.floor(top / ROW_HEIGHT) - 1), Math.min(length, Math.ceil((top + height) / ROW_HEIGHT) + 1)];
  const seen = { queries: rows(layer.numQueries), keys: rows(layer.numKeys), counts: new Uint32Array(LEVELS + 1) };
  eachLine(layer, seen, (head, query, key, level) => seen.counts[level]++);
  return seen;
}

function eachLine(layer, { queries, keys }, visit) {
  const { focus } = state;
  const only = (side) => (focus?.side === side ? focus.index : null);
  const [onlyQuery, onlyKey] = [only("query"), only("key")];
  const from = onlyQuery ?? 0;
  const to = onlyQuery === null ? layer.numQueries : onlyQuery + 1;
  for (const head of state.heads) {
    for (let query = from; query < to; query++) {
      const isSeen = onlyQuery !== null || (query >= queries[0] && query < queries[1]);
      const begin = onlyKey ?? (isSeen ? 0 : keys[0]);
      const end = onlyKey !== null ? onlyKey + 1 : isSeen ? layer.numKeys : keys[1];
      const row = (head * layer.numQueries + query) * layer.numKeys;
      for (let key = begin; key < end; key++) {
        const level = layer.scores[row + key];
        if (level) visit(head, query, key, level);
      }
    }
  }
}

/** The level from which lines are drawn: that of the threshold, or a higher one where there were too many. */
function lowestLevel(counts, wanted) {
  let drawn = 0;
  let level = LEVELS + 1;
  while (level > wanted && drawn + counts[level - 1] <= MOST_LINES) drawn += counts[--level] ?? 0;
  let left = 0;
  for (let i = wanted; i < level; i++) left += counts[i] ?? 0;
  return { level, left };
}

function strokeLines(context, layer, seen, lowest, width, top) {
  const paths = new Map(); // by head and opacity, as a canvas strokes many lines at once much faster
  let drawn = 0;
  eachLine(layer, seen, (head, query, key, level) => {
    if (level < lowest) return;
    drawn++;
    const name = head * OPACITIES + ((level * OPACITIES) >> 8);
    const path = paths.get(name) ?? paths.set(name, new Path2D()).get(name);
    const [from, to] = [(query + 0.5) * ROW_HEIGHT - top, (key + 0.5) * ROW_HEIGHT - top];
    path.moveTo(0, from);
    path.bezierCurveTo(width * 0.45, from, width * 0.55, to, width, to);
  });
  for (const name of [...paths.keys()].sort((a, b) => (a % OPACITIES) - (b % OPACITIES))) {
    const strength = ((name % OPACITIES) + 1) / OPACITIES;
    context.globalAlpha = 0.08 + 0.87 * strength;
    context.lineWidth = 0.8 + 2.4 * strength;
    context.strokeStyle = headColour(Math.floor(name / OPACITIES));
    context.stroke(paths.get(name));
  }
  context.globalAlpha = 1;
  return drawn;
}
