// Scores in words, for the line above the picture, for screen readers, and as a table.

const SPOKEN = 4;

function percent(weight) {
  return weight > 0 && weight < 0.005 ? "< 1 %" : `${Math.round(100 * weight)} %`;
}

/** A token in quotation marks, kept apart from the direction of the text around it. */
function quoted(tokens, index) {
  const place = tokens.indexOf(tokens[index]) === tokens.lastIndexOf(tokens[index]) ? "" : ` (${index + 1})`;
  return `“\u2068${tokens[index]}\u2069”${place}`;
}

function strongest(weights, count) {
  const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b);
  return order.slice(0, count).filter((index) => weights[index] >= 0.5 / LEVELS);
}

function wordsForHeads(layer) {
  const heads = shownHeads();
  if (heads.length === layer.numHeads && heads.length > 1) return `mean of all ${heads.length} heads`;
  if (!heads.length) return "no head";
  return heads.length === 1 ? `head ${heads[0] + 1}` : `mean of heads ${heads.map((head) => head + 1).join(", ")}`;
}

function wordsFor(layer) {
  const where = `Layer ${state.layer + 1} of ${layersOf(state.kind).length}, ${wordsForHeads(layer)}`;
  if (!state.focus) return `${where}: point at a token, or go to one by Tab and the arrow keys.`;
  const { side, index, other } = state.focus;
  const otherSide = side === "query" ? "key" : "query";
  const weights = layer.weightsOf(shownHeads(), side, index);
  const name = quoted(layer.tokens[side], index);
  const verb = side === "query" ? "attends to" : "is attended to by";
  if (other !== undefined) return `${where}: ${name} ${verb} ${quoted(layer.tokens[otherSide], other)} ${percent(weights[other])}.`;
  const found = strongest(weights, SPOKEN);
  const list = found.map((i) => `${quoted(layer.tokens[otherSide], i)} ${percent(weights[i])}`).join(", ");
  return `${where}: ${name} ${verb} ${list || "nothing"}${found.length === SPOKEN ? " …" : "."}`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function isolated(text) {
  return element("bdi", {}, text);
}

/** For each token that attends, the keys with the highest scores. */
function tableOf(layer, count = 5) {
  const heads = shownHeads();
  const head = element("tr", {}, element("th", { scope: "col" }, "Token"), element("th", { scope: "col", colspan: count }, "attends most to"));
  const rows = layer.tokens.query.map((token, query) => {
    const weights = layer.weightsOf(heads, "query", query);
    const cells = strongest(weights, count).map((key) =>
      element("td", {}, isolated(layer.tokens.key[key]), ` ${(100 * weights[key]).toFixed(1)} %`),
    );
    return element("tr", {}, element("th", { scope: "row" }, `${query + 1} `, isolated(token)), ...cells);
  });
  const caption = element("caption", {}, `Layer ${state.layer + 1} (${layer.name}), ${wordsForHeads(layer)}`);
  return element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...rows));
}
