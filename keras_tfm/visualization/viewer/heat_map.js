// One square for each pair of tokens: the mean score of the checked heads.

const LABEL_LIMIT = 130;

function makeHeatMap(layer) {
  const view = { layer };
  let isNew = true;
  const picture = makeScrollCanvas("Heat map of scores; arrow keys choose a row", (...part) => drawHeatMap(view, ...part));
  const legend = element("canvas", { class: "legend", role: "img" });
  const legendText = element("span");
  const caption = element("p", { class: "caption" }, `rows: ${layer.sides.query} attends · columns: ${layer.sides.key} is attended to · 0 `, legend, legendText);
  view.element = element("div", { class: "heat-map" }, picture.box, caption);
  view.draw = (current) => {
    view.layer = current;
    measureHeatMap(view, picture);
    drawLegend(legend, legendText, view.highest);
    if (isNew && state.focus?.side === "query") reveal(state.focus.index);
    isNew = false;
    picture.redraw();
    Object.assign(picture.canvas.dataset, { cells: view.drawn, highest: view.highest.toFixed(4) });
  };
  const reveal = (query) => {
    const { box } = picture;
    const [key] = strongest(view.layer.weightsOf(shownHeads(), "query", query), 1);
    box.scrollTop = nearestScroll(query * view.cell, box.scrollTop, box.clientHeight - view.top - view.cell);
    if (key !== undefined) box.scrollLeft = nearestScroll(key * view.cell, box.scrollLeft, box.clientWidth - view.left - view.cell);
  };
  const pairAt = (event) => {
    const place = picture.canvas.getBoundingClientRect();
    const key = Math.floor((event.clientX - place.left - view.left + picture.box.scrollLeft) / view.cell);
    const query = Math.floor((event.clientY - place.top - view.top + picture.box.scrollTop) / view.cell);
    const isInside = event.clientX - place.left >= view.left && event.clientY - place.top >= view.top;
    const isPair = isInside && query < view.layer.numQueries && key < view.layer.numKeys;
    return isPair ? { side: "query", index: query, other: key } : null;
  };
  picture.canvas.addEventListener("pointermove", (event) => pointAt(pairAt(event)));
  picture.canvas.addEventListener("pointerleave", () => pointAt(null));
  picture.canvas.addEventListener("click", (event) => hold(pairAt(event)));
  picture.box.addEventListener("keydown", (event) => walkRows(() => view.layer, event, reveal));
  return view;
}

/** The scroll nearest to the present one at which a place is seen. */
function nearestScroll(place, scroll, room) {
  return place < scroll || place > scroll + room ? place - room / 2 : scroll;
}

function measureHeatMap(view, picture) {
  const { layer } = view;
  const context = fitCanvas(picture.canvas, 10, 10);
  const heads = shownHeads();
  view.left = widestText(context, layer.tokens.query, LABEL_LIMIT) + 14;
  view.top = widestText(context, layer.tokens.key, LABEL_LIMIT) + 14;
  view.cell = Math.max(16, Math.min(34, Math.floor((picture.box.parentElement.clientWidth - view.left - 20) / layer.numKeys)));
  picture.resize(view.left + view.cell * layer.numKeys + 2, view.top + view.cell * layer.numQueries + 2);
  const wanted = `${allLayers.indexOf(layer)}:${heads}`;
  if (view.measured === wanted) return;
  view.measured = wanted;
  view.highest = 0;
  for (let query = 0; query < layer.numQueries; query++) {
    for (let key = 0; key < layer.numKeys; key++) {
      view.highest = Math.max(view.highest, layer.weight(heads, query, key));
    }
  }
}

function drawHeatMap(view, context, scrollLeft, scrollTop, width, height) {
  const { layer, left, top, cell } = view;
  const heads = shownHeads();
  const range = (scroll, size, margin, length) => [Math.floor(scroll / cell), Math.min(length, Math.ceil((scroll + size - margin) / cell))];
  const [firstKey, lastKey] = range(scrollLeft, width, left, layer.numKeys);
  const [firstQuery, lastQuery] = range(scrollTop, height, top, layer.numQueries);
  const x = (key) => left + key * cell - scrollLeft;
  const y = (query) => top + query * cell - scrollTop;
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  view.drawn = 0;
  for (let query = firstQuery; query < lastQuery; query++) {
    for (let key = firstKey; key < lastKey; key++) {
      const weight = layer.weight(heads, query, key);
      if (weight < state.threshold || !weight) continue;
      view.drawn++;
      context.fillStyle = `rgb(${scoreColour(weight / view.highest).join(" ")})`;
      context.fillRect(x(key), y(query), cell - 1, cell - 1);
    }
  }
  context.strokeStyle = cssColour("--focus");
  context.lineWidth = 2;
  const { focus } = state;
  if (focus?.side === "query") context.strokeRect(x(0) + 1, y(focus.index), cell * layer.numKeys - 3, cell - 1);
  if (focus?.other !== undefined) context.strokeRect(x(focus.other), y(focus.index), cell - 1, cell - 1);
  context.restore();
  drawLabels(context, view, { firstKey, lastKey, firstQuery, lastQuery, x, y });
}

function drawLabels(context, view, { firstKey, lastKey, firstQuery, lastQuery, x, y }) {
  const { layer, left, top, cell } = view;
  const isFocus = (side, index) => state.focus?.side === side ? state.focus.index === index : state.focus?.other === index && state.focus?.other !== undefined;
  const label = (token, side, index) => {
    context.fillStyle = cssColour(isFocus(side, index) ? "--focus" : "--text");
    return shortened(context, token, LABEL_LIMIT);
  };
  context.textAlign = "right";
  for (let query = firstQuery; query < lastQuery; query++) {
    if (y(query) + cell / 2 > top) context.fillText(label(layer.tokens.query[query], "query", query), left - 7, y(query) + cell / 2);
  }
  context.textAlign = "left";
  for (let key = firstKey; key < lastKey; key++) {
    if (x(key) + cell / 2 <= left) continue;
    context.save();
    context.translate(x(key) + cell / 2, top - 7);
    context.rotate(-Math.PI / 2);
    context.fillText(label(layer.tokens.key[key], "key", key), 0, 0);
    context.restore();
  }
}

function drawLegend(legend, text, highest) {
  const context = fitCanvas(legend, 120, 12);
  for (let i = 0; i < 120; i++) {
    context.fillStyle = `rgb(${scoreColour(i / 119).join(" ")})`;
    context.fillRect(i, 0, 1, 12);
  }
  text.textContent = ` ${highest.toFixed(2)}`;
  legend.setAttribute("aria-label", `Colours from 0 to ${highest.toFixed(2)}`);
}
