// A list of which only what is in sight is in the document, so that ten thousand steps scroll like ten.

const OVERSCAN = 900;

export class VirtualList {
  /** `render(item)` makes an element for an item; its height is guessed first and measured when it is in sight. */
  constructor(scroller, render, guess = 180) {
    this.scroller = scroller;
    this.render = render;
    this.guess = guess;
    this.body = document.createElement("div");
    this.body.className = "virtual";
    scroller.append(this.body);
    this.items = [];
    this.heights = new Map();
    this.offsets = [0];
    this.inSight = new Map();
    this.measured = new ResizeObserver((entries) => this.#measure(entries));
    this.target = null;
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    for (const hand of ["wheel", "touchmove", "pointerdown", "keydown"]) scroller.addEventListener(hand, () => (this.target = null), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
  }

  /** Other items. Elements of those that keep their place stay, but for `stale` ones. */
  show(items, stale = () => true) {
    for (const [index, element] of this.inSight) {
      if (items[index] === this.items[index] && !stale(items[index])) continue;
      this.#drop(element);
      this.inSight.delete(index);
    }
    this.items = items;
    this.#place(0);
    this.draw();
  }

  get atEnd() {
    return this.scroller.scrollTop + this.scroller.clientHeight > this.scroller.scrollHeight - 60;
  }

  /** The index of the first item that is in sight. */
  get first() {
    return this.#find(this.scroller.scrollTop + 1);
  }

  /** Bring an item to the top, and keep it there while what is above it is measured, until somebody scrolls. */
  scrollTo(index) {
    if (index < 0 || index >= this.items.length) return;
    this.target = index;
    this.scroller.scrollTop = this.offsets[index];
    this.draw();
  }

  draw() {
    const top = this.scroller.scrollTop - OVERSCAN;
    const end = this.scroller.scrollTop + this.scroller.clientHeight + OVERSCAN;
    const from = this.#find(Math.max(0, top));
    let to = from;
    while (to < this.items.length && this.offsets[to] < end) to++;
    for (const [index, element] of this.inSight) {
      if (index < from || index >= to) {
        this.#drop(element);
        this.inSight.delete(index);
      }
    }
    for (let index = from; index < to; index++) {
      let element = this.inSight.get(index);
      if (!element) {
        element = this.render(this.items[index]);
        element.dataset.index = index;
        this.inSight.set(index, element);
        this.body.append(element);
        this.measured.observe(element);
      }
      element.style.transform = `translateY(${this.offsets[index]}px)`;
    }
  }

  #measure(entries) {
    let from = Infinity;
    let shift = 0;
    for (const { target } of entries) {
      const index = Number(target.dataset.index);
      const height = target.offsetHeight;
      const key = this.items[index];
      const before = this.heights.get(key) ?? this.guess;
      if (!height || before === height || this.inSight.get(index) !== target) continue;
      this.heights.set(key, height);
      if (this.offsets[index + 1] <= this.scroller.scrollTop) shift += height - before; // it is above what is looked at
      from = Math.min(from, index);
    }
    if (from === Infinity) return;
    this.#place(from);
    this.body.style.height = `${this.offsets[this.items.length]}px`; // before scrolling, which it bounds
    if (this.target !== null) this.scroller.scrollTop = this.offsets[this.target];
    else if (shift) this.scroller.scrollTop += shift;
    this.draw();
  }

  #place(from) {
    this.offsets.length = this.items.length + 1;
    for (let index = from; index < this.items.length; index++) {
      this.offsets[index + 1] = this.offsets[index] + (this.heights.get(this.items[index]) ?? this.guess);
    }
    this.body.style.height = `${this.offsets[this.items.length]}px`; // before anybody scrolls: not farther than this
  }

  #find(offset) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.offsets[middle + 1] <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #drop(element) {
    this.measured.unobserve(element);
    element.remove();
  }
}
