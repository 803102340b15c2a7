// What the page shows: the tokens, and the scores of every layer, unpacked when they are first asked for.

const LEVELS = 255;

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function unpack(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

class AttentionLayer {
  constructor(packed, tokens) {
    this.packed = packed;
    this.name = packed.name;
    this.kind = packed.kind;
    [this.numHeads, this.numQueries, this.numKeys] = packed.shape;
    this.sides = { query: packed.sides[0], key: packed.sides[1] };
    this.tokens = { query: tokens[packed.sides[0]], key: tokens[packed.sides[1]] };
    this.scores = null; // bytes [N, T, S] once loaded
    this.hasVectors = Boolean(packed.query && packed.key);
  }

  load() {
    this.loading ??= unpack(this.packed.scores).then((buffer) => (this.scores = new Uint8Array(buffer)));
    return this.loading;
  }

  loadVectors() {
    this.loadingVectors ??= Promise.all(["query", "key"].map((side) => unpack(this.packed[side].data))).then(
      ([query, key]) => (this.vectors = { query: new Int8Array(query), key: new Int8Array(key) }),
    );
    return this.loadingVectors;
  }

  level(head, query, key) {
    return this.scores[(head * this.numQueries + query) * this.numKeys + key];
  }

  weight(heads, query, key) {
    let sum = 0;
    for (const head of heads) sum += this.level(head, query, key);
    return heads.length ? sum / (LEVELS * heads.length) : 0;
  }

  /** The mean scores between one token and all of the other side. */
  weightsOf(heads, side, index) {
    const length = side === "query" ? this.numKeys : this.numQueries;
    const weights = new Float32Array(length);
    for (let i = 0; i < length; i++) {
      weights[i] = side === "query" ? this.weight(heads, index, i) : this.weight(heads, i, index);
    }
    return weights;
  }

  /** The vector of a token in a head; several heads may share one key (grouped queries). */
  vector(side, head, index) {
    const { scales, width } = this.packed[side];
    const own = Math.floor((head * scales.length) / this.numHeads);
    const length = side === "query" ? this.numQueries : this.numKeys;
    const begin = (own * length + index) * width;
    return Float32Array.from(this.vectors[side].subarray(begin, begin + width), (level) => level * scales[own]);
  }
}

const page = JSON.parse(document.getElementById("data").textContent);
const allLayers = page.layers.map((packed) => new AttentionLayer(packed, page.tokens));
