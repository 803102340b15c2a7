// Why a score is what it is: the query of one token times the key of every other, dimension by dimension.

const STRIP = 26;

function makeNeuronView(layer) {
  const view = { layer };
  const choice = element("select", { id: "query-token" });
  layer.tokens.query.forEach((token, index) => choice.append(element("option", { value: index }, `${index + 1}: ${token}`)));
  choice.addEventListener("change", () => change({ focus: { side: "query", index: Number(choice.value) }, isHeld: true }));
  const detail = element("p", { class: "caption detail" });
  const picture = makeScrollCanvas("Queries times keys; arrow keys choose the token that attends", (...part) => drawNeurons(view, ...part));
  const label = element("label", { for: "query-token" }, "Token that attends ");
  view.element = element("div", { class: "neuron-view" }, element("p", { class: "caption" }, label, choice), picture.box, detail);
  view.draw = (current) => {
    view.layer = current;
    view.head = shownHeads()[0] ?? 0;
    view.query = state.focus?.side === "query" ? state.focus.index : Number(choice.value);
    choice.value = view.query;
    measureNeurons(view, picture);
    picture.redraw();
    detail.textContent = wordsForPair(view);
    picture.canvas.dataset.products = view.products.length;
  };
  const placeOf = (event) => {
    const place = picture.canvas.getBoundingClientRect();
    const key = Math.floor((event.clientY - place.top - view.top + picture.box.scrollTop) / STRIP);
    const dimension = Math.floor((event.clientX - place.left - view.left) / view.cell);
    return event.clientY - place.top >= view.top && key < view.layer.numKeys ? { key, dimension } : null;
  };
  picture.canvas.addEventListener("pointermove", (event) => {
    view.place = placeOf(event);
    picture.redraw();
    detail.textContent = wordsForPair(view);
  });
  picture.box.addEventListener("keydown", (event) => walkRows(() => view.layer, event, () => {}));
  return view;
}

function measureNeurons(view, picture) {
  const { layer, head, query } = view;
  const context = fitCanvas(picture.canvas, 10, 10);
  view.vector = layer.vector("query", head, query);
  view.products = layer.tokens.key.map((_, key) => layer.vector("key", head, key).map((value, i) => value * view.vector[i]));
  view.sums = view.products.map((products) => products.reduce((a, b) => a + b, 0));
  const highest = (values) => Math.max(1e-9, values.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
  view.highest = { vector: highest(view.vector), product: Math.max(...view.products.map(highest)) };
  view.left = Math.max(60, widestText(context, [...layer.tokens.key, `q of ${layer.tokens.query[query]}`], LABEL_LIMIT)) + 14;
  view.top = 2 * STRIP + 8;
  view.cell = Math.max(4, Math.min(26, Math.floor((picture.box.parentElement.clientWidth - view.left - 150) / view.vector.length)));
  picture.resize(view.left + view.cell * view.vector.length + 126, view.top + STRIP * layer.numKeys + 2);
}

function drawNeurons(view, context, scrollLeft, scrollTop, width, height) {
  const { layer, head, query, left, top, cell } = view;
  const right = left + cell * view.vector.length;
  const text = cssColour("--text");
  const strip = (values, y, highest) =>
    values.forEach((value, i) => {
      context.fillStyle = signedColour(value / highest);
      context.fillRect(left + i * cell - scrollLeft, y + 3, cell - (cell > 5 ? 1 : 0), STRIP - 6);
    });
  const write = (words, x, y, align) => {
    context.textAlign = align;
    context.fillStyle = text;
    context.fillText(words, x - scrollLeft, y + STRIP / 2);
  };
  write(shortened(context, `q of ${layer.tokens.query[query]}`, LABEL_LIMIT), left - 8, 0, "right");
  strip(view.vector, 0, view.highest.vector);
  write("q × k, dimension by dimension, with", left, STRIP, "left");
  write("q · k", right + 56, STRIP, "right");
  write("score", right + 116, STRIP, "right");
  context.save();
  context.beginPath();
  context.rect(0, top, width, height);
  context.clip();
  const last = Math.min(layer.numKeys, Math.ceil((scrollTop + height - top) / STRIP));
  for (let key = Math.floor(scrollTop / STRIP); key < last; key++) {
    const y = top + key * STRIP - scrollTop;
    const score = layer.level(head, query, key) / LEVELS;
    context.fillStyle = `rgb(${scoreColour(score * 0.75).join(" ")} / ${score ? 0.55 : 0})`;
    context.fillRect(right + 66 - scrollLeft, y + 2, 54, STRIP - 4);
    write(shortened(context, layer.tokens.key[key], LABEL_LIMIT), left - 8, y, "right");
    strip(view.products[key], y, view.highest.product);
    write(view.sums[key].toFixed(2), right + 56, y, "right");
    write(score.toFixed(2), right + 116, y, "right");
    if (view.place?.key === key) {
      context.strokeStyle = cssColour("--focus");
      context.lineWidth = 2;
      context.strokeRect(1, y + 1, width - 2, STRIP - 2);
    }
  }
  context.restore();
}

function wordsForPair(view) {
  const { place, layer, head, query, vector } = view;
  if (!place) return `Head ${head + 1}. Orange is positive, blue negative. The score is the softmax of q · k, scaled and masked.`;
  const { key, dimension } = place;
  const pair = `${quoted(layer.tokens.query, query)} · ${quoted(layer.tokens.key, key)}: q · k = ${view.sums[key].toFixed(3)}, score ${(layer.level(head, query, key) / LEVELS).toFixed(2)}`;
  if (dimension < 0 || dimension >= vector.length) return pair;
  const [q, k] = [vector[dimension], layer.vector("key", head, key)[dimension]];
  return `${pair}; dimension ${dimension + 1}: ${q.toFixed(3)} × ${k.toFixed(3)} = ${(q * k).toFixed(3)}`;
}
