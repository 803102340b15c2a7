// A small picture of every head of every layer; each one opens.

function makeGridView() {
  const layers = layersOf(state.kind);
  const columns = Math.max(...layers.map((layer) => layer.numHeads));
  const grid = element("div", { class: "grid", role: "group", "aria-label": "All layers and heads" });
  grid.style.setProperty("--columns", columns);
  grid.append(element("span", { class: "corner", "aria-hidden": "true" }, "layer"));
  for (let head = 0; head < columns; head++) grid.append(element("span", { class: "column", "aria-hidden": "true" }, `head ${head + 1}`));
  const cells = layers.flatMap((layer, index) => {
    grid.append(element("span", { class: "row", "aria-hidden": "true", title: layer.name }, `${index + 1}`));
    const made = [...Array(columns).keys()].map((head) => (head < layer.numHeads ? makeCell(layer, index, head) : element("span")));
    grid.append(...made);
    return made.filter((cell) => cell.matches("button"));
  });
  if (cells.length) cells[0].tabIndex = 0;
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) drawCell(target);
  });
  cells.forEach((cell) => observer.observe(cell));
  grid.addEventListener("keydown", (event) => walkGrid(cells, event));
  const caption = element("p", { class: "caption" }, "Each picture has its own scale: its highest score is the strongest colour. Click one to open it.");
  return {
    element: element("div", { class: "grid-view" }, element("div", { class: "scroll" }, grid), caption),
    draw: () => cells.filter((cell) => cell.dataset.drawn).forEach(drawCell),
    close: () => observer.disconnect(),
  };
}

function makeCell(layer, index, head) {
  const cell = element("button", { type: "button", tabindex: -1, "data-layer": index, "data-head": head, "aria-label": `Layer ${index + 1}, head ${head + 1}: open` });
  cell.append(element("canvas", { "aria-hidden": "true" }));
  cell.layer = layer;
  cell.addEventListener("click", () => change({ view: "heads", layer: index, heads: new Set([head]), focus: null, isHeld: false }));
  return cell;
}

function walkGrid(cells, event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const cell = event.target.closest("button");
  if (!step || !cell) return;
  event.preventDefault();
  const [layer, head] = [Number(cell.dataset.layer) + step[0], Number(cell.dataset.head) + step[1]];
  const next = cells.find((other) => Number(other.dataset.layer) === layer && Number(other.dataset.head) === head);
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

async function drawCell(cell) {
  const { layer } = cell;
  await layer.load();
  const picture = thumbnail(layer, Number(cell.dataset.head));
  const canvas = cell.firstChild;
  const size = cell.clientWidth - 2;
  const context = fitCanvas(canvas, size, size);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, size, size);
  cell.dataset.drawn = "yes";
}

/** A picture of at most 96 pixels a side; where there are more scores, a pixel is the highest of its scores. */
function thumbnail(layer, head, most = 96) {
  const [rows, columns] = [Math.min(most, layer.numQueries), Math.min(most, layer.numKeys)];
  const levels = new Uint8Array(rows * columns);
  for (let query = 0; query < layer.numQueries; query++) {
    const row = Math.floor((query * rows) / layer.numQueries) * columns;
    for (let key = 0; key < layer.numKeys; key++) {
      const pixel = row + Math.floor((key * columns) / layer.numKeys);
      levels[pixel] = Math.max(levels[pixel], layer.level(head, query, key));
    }
  }
  const highest = levels.reduce((a, b) => Math.max(a, b), 1);
  const colours = Array.from({ length: highest + 1 }, (_, level) => scoreColour(level / highest));
  const picture = new OffscreenCanvas(columns, rows);
  const image = new ImageData(columns, rows);
  levels.forEach((level, i) => image.data.set([...colours[level], 255], 4 * i));
  picture.getContext("2d").putImageData(image, 0, 0);
  return picture;
}
