// The form above the picture.

const VIEWS = { heads: "Heads", sentence: "Sentences", heatmap: "Heat map", grid: "All heads", neurons: "Query × key" };
const KIND_NAMES = { encoder: "Encoder", decoder: "Decoder", cross: "Cross" };
const byId = (id) => document.getElementById(id);

function addChoices(fieldset, name, choices, choose) {
  for (const [value, text] of Object.entries(choices)) {
    const input = element("input", { type: "radio", name, value, id: `${name}-${value}` });
    input.addEventListener("change", () => choose(value));
    fieldset.append(element("label", {}, input, element("span", {}, text)));
  }
}

function startControls() {
  addChoices(byId("views"), "view", VIEWS, (view) => change({ view }));
  addChoices(byId("kinds"), "kind", Object.fromEntries(KINDS.map((kind) => [kind, KIND_NAMES[kind]])), (kind) => change({ kind }));
  byId("kinds").hidden = KINDS.length < 2;
  if (!allLayers.some((layer) => layer.hasVectors)) {
    byId("view-neurons").disabled = true;
    byId("view-neurons").parentElement.title = "This page was made without queries and keys: with_vectors=True adds them";
  }
  byId("layer").addEventListener("change", (event) => change({ layer: Number(event.target.value) }));
  byId("layer-before").addEventListener("click", () => moveLayer(-1));
  byId("layer-after").addEventListener("click", () => moveLayer(1));
  byId("threshold").addEventListener("input", (event) => change({ threshold: Number(event.target.value) / 100 }));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("numbers").addEventListener("toggle", () => change({}));
}

function showHeadBoxes(layer) {
  const fieldset = byId("heads");
  if (fieldset.dataset.count !== String(layer.numHeads)) {
    fieldset.dataset.count = layer.numHeads;
    fieldset.querySelectorAll("label, button").forEach((old) => old.remove());
    for (let head = 0; head < layer.numHeads; head++) fieldset.append(makeHeadBox(head));
    const all = element("button", { type: "button", id: "all-heads" }, "all");
    all.addEventListener("click", () => change({ heads: new Set(Array(currentLayer().numHeads).keys()) }));
    fieldset.append(all);
  }
  fieldset.querySelectorAll("input").forEach((box, head) => (box.checked = state.heads.has(head)));
}

function makeHeadBox(head) {
  const box = element("input", { type: "checkbox", "aria-label": `Head ${head + 1}` });
  const label = element("label", { title: `Head ${head + 1}; a double click shows it alone` }, box, element("span", {}, `${head + 1}`));
  label.style.setProperty("--head", headColour(head));
  box.addEventListener("change", () => {
    const heads = new Set(state.heads);
    box.checked ? heads.add(head) : heads.delete(head);
    change({ heads });
  });
  label.addEventListener("dblclick", () => change({ heads: new Set([head]) }));
  return label;
}

function showControls() {
  const layer = currentLayer();
  const layers = layersOf(state.kind);
  const select = byId("layer");
  if (select.dataset.kind !== state.kind) {
    select.dataset.kind = state.kind;
    select.replaceChildren(...layers.map(({ name }, index) => element("option", { value: index }, `${index + 1} · ${name}`)));
  }
  select.value = state.layer;
  byId("layer-before").disabled = state.layer === 0;
  byId("layer-after").disabled = state.layer === layers.length - 1;
  byId(`view-${state.view}`).checked = true;
  byId(`kind-${state.kind}`).checked = true;
  byId("threshold").value = Math.round(100 * state.threshold);
  byId("threshold-text").textContent = `${Math.round(100 * state.threshold)} %`;
  showHeadBoxes(layer);
}
