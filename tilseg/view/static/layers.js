// The image and the mask in OpenSeadragon, and how one set of tiles takes the place of another.

const OSD = window.OpenSeadragon;

export function makeViewer(element) {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  return OSD({
    element,
    drawer: "canvas",
    showNavigationControl: false,
    keyboardNavEnabled: false,
    tabIndex: "",
    animationTime: still ? 0 : 0.4,
    immediateRender: true,
    maxZoomPixelRatio: 16,
    visibilityRatio: 0.3,
    zoomPerScroll: 1.4,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
}

export class Layers {
  #viewer;
  #about;
  #items = {};
  #serial = { image: 0, mask: 0 };
  #opacity = { image: 1, mask: 0.5 };

  constructor(viewer, about) {
    this.#viewer = viewer;
    this.#about = about;
    viewer.addHandler("zoom", () => this.#smooth());
  }

  get first() {
    return this.#viewer.world.getItemAt(0);
  }

  setOpacity(layer, opacity) {
    this.#opacity[layer] = opacity;
    this.#items[layer]?.setOpacity(opacity);
  }

  // Addresses of tiles of `layer` from now on carry `query`; what is shown stays until the new ones are there.
  show(layer, query) {
    const serial = ++this.#serial[layer];
    const { rows, cols, tile, overlap, zooms } = this.#about;
    const tileSource = {
      width: cols,
      height: rows,
      tileSize: tile,
      tileOverlap: overlap,
      minLevel: 0,
      maxLevel: zooms - 1,
      getTileUrl: (level, x, y) => `/tiles/${layer}/${zooms - 1 - level}/${y}_${x}.png?${query}`,
    };
    return new Promise((done) => {
      this.#viewer.addTiledImage({
        tileSource,
        width: 1,
        opacity: this.#items[layer] ? 0 : this.#opacity[layer],
        preload: true,
        index: layer === "image" ? 0 : this.#viewer.world.getItemCount(),
        success: ({ item }) => this.#put(layer, item, serial, done),
      });
    });
  }

  #put(layer, item, serial, done) {
    const swap = () => {
      const stale = serial !== this.#serial[layer];
      const old = stale ? item : this.#items[layer];
      if (!stale) {
        this.#items[layer] = item;
        item.setOpacity(this.#opacity[layer]);
      }
      if (old) this.#viewer.world.removeItem(old);
      this.#smooth();
      done();
    };
    if (!this.#items[layer] || item.getFullyLoaded()) swap();
    else item.addOnceHandler("fully-loaded-change", swap);
  }

  // Pixels are squares where they are larger than the screen's.
  #smooth() {
    const item = this.first;
    if (!item) return;
    const zoom = item.viewportToImageZoom(this.#viewer.viewport.getZoom());
    this.#viewer.drawer.setImageSmoothingEnabled(zoom * window.devicePixelRatio < 1);
  }
}
