// A canvas as large as what is seen of a larger picture: only that part is drawn.

function fitCanvas(canvas, width, height) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const size = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== size[0]) canvas.width = size[0];
  if (canvas.height !== size[1]) canvas.height = size[1];
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `13px ${cssColour("--font")}`;
  context.textBaseline = "middle";
  return context;
}

/** A scrolled region of which `draw(context, left, top, width, height)` draws the part that is seen. */
function makeScrollCanvas(label, draw) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const room = element("div", { class: "room" }, canvas);
  const box = element("div", { class: "scroll picture", tabindex: "0", role: "group", "aria-label": label }, room);
  const redraw = () => {
    const width = Math.min(box.clientWidth, room.offsetWidth);
    const height = Math.min(box.clientHeight, room.offsetHeight);
    draw(fitCanvas(canvas, width, height), box.scrollLeft, box.scrollTop, width, height);
  };
  box.addEventListener("scroll", redraw);
  const resize = (width, height) => {
    room.style.width = `${width}px`;
    room.style.height = `${height}px`;
  };
  return { box, canvas, redraw, resize };
}

/** The beginning of a text that fits into a width. */
function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const letters = [...text];
  while (letters.length && context.measureText(`${letters.join("")}…`).width > width) letters.pop();
  return `${letters.join("")}…`;
}

function widestText(context, texts, limit) {
  return Math.min(limit, texts.reduce((widest, text) => Math.max(widest, context.measureText(text).width), 0));
}

/** Arrow keys on a picture of rows: the row before and after. */
function walkRows(layer, event, reveal) {
  const index = state.focus?.side === "query" ? state.focus.index : -1;
  const next = stepOf(event.key, index, layer().numQueries);
  if (next !== null) {
    event.preventDefault();
    change({ focus: { side: "query", index: next }, isHeld: false });
    reveal(next);
  } else if (event.key === "Enter") hold(state.focus);
  else steer(event);
}
