/* Pictures and COCO files of one's own: read in the browser, they leave it for nowhere. */

const readAs = (file, how) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
  reader[how](file);
});

function decoded(url, name) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error(`${name} is no picture that this browser can show`));
    picture.src = url;
  });
}

/* The scene of a picture, of a COCO file, or of both; sides beyond LONGEST are scaled down, boxes and all. */
async function fromFiles(files) {
  const texts = files.filter(file => /\.json$/i.test(file.name));
  const pictures = files.filter(file => !texts.includes(file));
  let picture = null, size = null, boxes = [];
  if (pictures.length) {
    picture = await decoded(await readAs(pictures[0], "readAsDataURL"), pictures[0].name);
    size = [picture.naturalHeight, picture.naturalWidth];
  }
  if (texts.length) {
    let coco;
    try {
      coco = JSON.parse(await readAs(texts[0], "readAsText"));
    } catch {
      throw new Error(`${texts[0].name} is no JSON`);
    }
    const found = inCoco(coco, pictures[0]?.name, texts[0].name);
    boxes = found.boxes;
    size ??= found.size;
  }
  const by = Math.min(1, LONGEST / Math.max(...size));
  const scaled = size.map(side => Math.max(1, Math.round(side * by)));
  boxes = boxes.map(box => box.map(side => side * by)).slice(0, MOST_OBJECTS);
  if (!boxes.length) boxes = [middle(scaled)];
  return {picture, size: scaled, objects: boxes};
}

function middle([height, width]) {
  const side = Math.min(24, height / 2, width / 2), [x, y] = [width, height].map(room => Math.round((room - side) / 2));
  return [x, y, x + side, y + side];
}

function inCoco(coco, name, file) {
  if (!Array.isArray(coco?.images) || !Array.isArray(coco?.annotations)) {
    throw new Error(`${file} must hold images and annotations, as COCO does`);
  }
  const boxed = new Set(coco.annotations.map(one => one.image_id)), last = path => String(path).split(/[\\/]/).pop();
  const image = coco.images.find(one => name ? last(one.file_name) === name : boxed.has(one.id));
  if (!image) throw new Error(`${file} holds no image ${name ? `of the name ${name}` : "with boxes"}`);
  const own = coco.annotations.filter(one => one.image_id === image.id && !one.iscrowd && Array.isArray(one.bbox));
  const boxes = own.map(({bbox: [x, y, w, h]}) => [x, y, x + w, y + h]).filter(([a, b, c, d]) => c > a && d > b);
  return {size: [image.height, image.width], boxes};
}
