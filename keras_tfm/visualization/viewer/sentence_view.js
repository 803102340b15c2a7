// The two sentences as text; what is pointed at in one shades the other.

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u;
const LETTER = /\p{L}/u;

function directionOf(tokens) {
  const first = [...tokens.join("")].find((char) => LETTER.test(char));
  return first && RIGHT_TO_LEFT.test(first) ? "rtl" : "ltr";
}

function makeSentenceView(layer) {
  const lists = {};
  const parts = ["key", "query"].map((side) => {
    const says = side === "query" ? "attends" : "is attended to";
    lists[side] = makeTokenList(layer, side, `${layer.sides[side]}: ${says}`);
    lists[side].element.dir = directionOf(layer.tokens[side]);
    return element("div", { class: "sentence" }, element("h2", {}, `${layer.sides[side]}: ${says}`), lists[side].element);
  });
  return { element: element("div", { class: "sentence-view" }, ...parts), draw: (current) => paintLists(current, lists) };
}
