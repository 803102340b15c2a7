// Draws what the reader chose, once a frame.

const MAKERS = { heads: makeHeadView, sentence: makeSentenceView, heatmap: makeHeatMap, grid: makeGridView, neurons: makeNeuronView };
let shown = { key: null, view: null };
let changedAt = null;

/** A view is made anew only if its tokens are others; else it is drawn again. */
function viewFor(layer) {
  const name = state.view === "neurons" && !layer.hasVectors ? "heads" : state.view;
  const key = [name, state.kind, layer.sides.query, layer.sides.key, layer.numQueries, layer.numKeys].join();
  if (shown.key !== key) {
    shown.view?.close?.();
    shown = { key, name, view: MAKERS[name](layer) };
    byId("view").replaceChildren(shown.view.element);
  }
  return shown;
}

async function draw() {
  const startedAt = changedAt;
  changedAt = null;
  const layer = currentLayer();
  await layer.load();
  if (state.view === "neurons" && layer.hasVectors) await layer.loadVectors();
  if (layer !== currentLayer()) return;
  showControls();
  const { name, view } = viewFor(layer);
  view.draw(layer);
  byId("status").textContent = name === "grid" ? `All heads of ${layersOf(state.kind).length} layers: choose one to open it.` : wordsFor(layer);
  if (byId("numbers").open) byId("numbers").querySelector("div").replaceChildren(tableOf(layer));
  const { dataset } = document.body;
  Object.assign(dataset, { drawn: Number(dataset.drawn ?? 0) + 1, milliseconds: (performance.now() - startedAt).toFixed(1) });
}

function schedule() {
  if (changedAt !== null) return;
  changedAt = performance.now();
  requestAnimationFrame(() => draw().catch(fail));
}

function fail(error) {
  byId("status").textContent = `This page cannot be shown: ${error.message}`;
  throw error;
}

function summary() {
  const parts = KINDS.map((kind) => {
    const layers = layersOf(kind);
    return `${KIND_NAMES[kind]}: ${layers.length} ${layers.length === 1 ? "layer" : "layers"} × ${layers[0].numHeads} heads, ${layers[0].numQueries} × ${layers[0].numKeys} tokens`;
  });
  return parts.join(" · ");
}

onChange = schedule;
state.heads = new Set(Array(currentLayer().numHeads).keys());
byId("summary").textContent = summary();
startControls();
startTheme(byId("theme"), schedule);
addEventListener("resize", schedule);
schedule();
