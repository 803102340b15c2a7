// What the reader chose. Everything that is drawn is drawn from this; `change` is the only way to change it.

const KINDS = ["encoder", "decoder", "cross"].filter((kind) => allLayers.some((layer) => layer.kind === kind));

const state = {
  view: "heads",
  kind: KINDS.at(-1),
  layer: 0, // index among the layers of the kind
  heads: new Set(), // the checked ones
  threshold: 0.05,
  focus: null, // {side: "query" | "key", index, other}: the token pointed at, and the one of the other side, if any
  isHeld: false,
};

let onChange = () => {};

function layersOf(kind) {
  return allLayers.filter((layer) => layer.kind === kind);
}

function currentLayer() {
  return layersOf(state.kind)[state.layer];
}

function checkedHeads() {
  return [...state.heads].sort((a, b) => a - b);
}

/** Queries times keys are those of one head. */
function shownHeads() {
  const heads = checkedHeads();
  return state.view === "neurons" ? heads.slice(0, 1) : heads;
}

function change(changes) {
  const before = currentLayer();
  Object.assign(state, changes);
  state.layer = Math.max(0, Math.min(state.layer, layersOf(state.kind).length - 1));
  const layer = currentLayer();
  const fitting = checkedHeads().filter((head) => head < layer.numHeads);
  if (fitting.length !== state.heads.size || layer.numHeads !== before.numHeads) {
    const wereAll = state.heads.size === before.numHeads;
    state.heads = new Set(wereAll || !fitting.length ? Array(layer.numHeads).keys() : fitting);
  }
  if (layer.kind !== before.kind) Object.assign(state, { focus: null, isHeld: false });
  onChange();
}

function pointAt(focus) {
  if (!state.isHeld) change({ focus });
}

function hold(focus) {
  const isSame = state.isHeld && state.focus?.side === focus?.side && state.focus?.index === focus?.index;
  change({ focus, isHeld: Boolean(focus) && !isSame });
}

function moveLayer(step) {
  change({ layer: state.layer + step });
}

/** One head alone: the next one, or the first after several. */
function moveHead(step) {
  const { numHeads } = currentLayer();
  const heads = checkedHeads();
  const next = heads.length === 1 ? heads[0] + step : step > 0 ? 0 : numHeads - 1;
  change({ heads: new Set([(next + numHeads) % numHeads]) });
}

/** The keys that all pictures share; returns whether the key was one of them. */
function steer(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.key in steps) event.shiftKey ? moveHead(steps[event.key]) : moveLayer(steps[event.key]);
  else if (event.key === "Escape") change({ focus: null, isHeld: false });
  else return false;
  event.preventDefault();
  return true;
}

/** Where an arrow key leads in a row of tokens, or null. */
function stepOf(key, index, length) {
  const target = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: length - 1 }[key];
  return target === undefined ? null : Math.max(0, Math.min(target, length - 1));
}
