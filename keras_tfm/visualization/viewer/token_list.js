// A list of tokens that can be pointed at, walked through by the arrow keys, and shaded by weights.

function makeTokenList(layer, side, label) {
  const tokens = layer.tokens[side];
  const list = element("ol", { class: `tokens ${side}`, role: "listbox", "aria-label": label });
  const items = tokens.map((token, index) =>
    element(
      "li",
      { role: "option", tabindex: index ? -1 : 0, "data-index": index, title: `${index + 1}: ${token}` },
      isolated(token),
      element("span", { class: "number", dir: "ltr", "aria-hidden": "true" }),
    ),
  );
  list.append(...items);
  const indexOf = (event) => {
    const item = event.target.closest("li");
    return item ? Number(item.dataset.index) : null;
  };
  const onIndex = (then) => (event) => {
    const index = indexOf(event);
    if (index !== null) then(index, event);
  };
  list.addEventListener("pointerover", onIndex((index) => pointAt({ side, index })));
  list.addEventListener("pointerleave", () => pointAt(null));
  list.addEventListener("click", onIndex((index) => hold({ side, index })));
  list.addEventListener("focusin", onIndex((index, event) => event.target.matches(":focus-visible") && pointAt({ side, index })));
  list.addEventListener("keydown", onIndex((index, event) => walk(items, side, index, event)));
  const reveal = (index) => {
    const { offsetTop, offsetHeight } = items[index];
    const isSeen = offsetTop >= list.scrollTop && offsetTop + offsetHeight <= list.scrollTop + list.clientHeight;
    if (!isSeen) list.scrollTop = offsetTop - list.clientHeight / 2;
  };
  return { element: list, items, reveal, paint: (weights) => paintTokens(items, side, weights) };
}

function walk(items, side, index, event) {
  const next = stepOf(event.key, index, items.length);
  if (next !== null) {
    event.preventDefault();
    change({ isHeld: false });
    items[index].tabIndex = -1;
    items[next].tabIndex = 0;
    items[next].focus();
    pointAt({ side, index: next });
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    hold({ side, index });
  } else steer(event);
}

/** Shades the tokens by their share of the highest weight; without weights none is shaded. */
function paintTokens(items, side, weights) {
  const highest = weights ? Math.max(weights.reduce((a, b) => Math.max(a, b), 0), 1e-9) : 1;
  items.forEach((item, index) => {
    const weight = weights ? weights[index] : 0;
    const isShown = weights && weight >= Math.max(state.threshold, 0.5 / LEVELS);
    const shade = isShown ? (0.1 + 0.9 * (weight / highest)).toFixed(2) : "0";
    if (item.shade !== shade) item.style.setProperty("--shade", (item.shade = shade));
    const text = isShown ? weight.toFixed(2).replace(/^0/, "") : "";
    const number = item.lastChild;
    if (number.textContent !== text) number.textContent = text;
    const isFocus = state.focus?.side === side && state.focus.index === index;
    if (item.classList.contains("focus") !== isFocus) item.classList.toggle("focus", isFocus);
    const isSelected = String(isFocus && state.isHeld);
    if (item.getAttribute("aria-selected") !== isSelected) item.setAttribute("aria-selected", isSelected);
  });
}

/** Shades both sides by what is pointed at. */
function paintLists(layer, lists) {
  const { focus } = state;
  for (const side of ["query", "key"]) {
    const isOther = focus && focus.side !== side;
    const weights = isOther ? layer.weightsOf(shownHeads(), focus.side, focus.index) : null;
    lists[side].paint(weights);
    if (focus) lists[side].reveal(weights ? strongest(weights, 1)[0] ?? 0 : focus.index);
  }
}
