// The latents of `cxr_gan.latents`, from the same seeds: JAX's threefry2x32 generator
// and its normal distribution. Agreement is to rounding in float32.

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];

/** Encrypts two 32-bit words with a key of two. Source: Salmon et al. 2011, "Parallel
 * Random Numbers: As Easy as 1, 2, 3", section 4. */
export function threefry2x32(key, words) {
  const keys = [key[0], key[1], (key[0] ^ key[1] ^ 0x1bd11bda) >>> 0];
  let a = (words[0] + keys[0]) >>> 0;
  let b = (words[1] + keys[1]) >>> 0;
  for (let round = 0; round < 5; round++) {
    for (const rotation of ROTATIONS[round % 2]) {
      a = (a + b) >>> 0;
      b = (((b << rotation) | (b >>> (32 - rotation))) ^ a) >>> 0;
    }
    a = (a + keys[(round + 1) % 3]) >>> 0;
    b = (b + keys[(round + 2) % 3] + round + 1) >>> 0;
  }
  return [a, b];
}

/** Latent `number` of a seed: Float32Array [size]. */
export function latent(seed, number, size) {
  const key = threefry2x32([0, seed >>> 0], [0, number >>> 0]); // jax.random.fold_in
  const values = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const [high, low] = threefry2x32(key, [0, i]);
    values[i] = Math.SQRT2 * inverseErf(uniform((high ^ low) >>> 0));
  }
  return values;
}

/** 32 random bits as a number between -1 and 1, neither included. */
function uniform(bits) {
  const fraction = (bits >>> 9) / 2 ** 23;
  const lowest = -1 + 2 ** -24;
  return Math.max(lowest, Math.fround(2 * fraction + lowest));
}

/** The inverse error function. Source: Giles 2010, "Approximating the erfinv
 * function", single precision. */
function inverseErf(x) {
  const w = -Math.log1p(-Math.fround(x * x));
  const near = [
    2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4,
    -1.25372503e-3, -4.17768164e-3, 0.246640727, 1.50140941,
  ];
  const far = [
    -2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3,
    -7.6224613e-3, 9.43887047e-3, 1.00167406, 2.83297682,
  ];
  const isNear = w < 5;
  const t = isNear ? w - 2.5 : Math.sqrt(w) - 3;
  return x * (isNear ? near : far).reduce((sum, factor) => sum * t + factor);
}

/** The latent at a fraction of the angle from a to b; see `cxr_gan.interpolate`. */
export function onArc(a, b, fraction) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  const sine = Math.sin(angle);
  const isLine = sine < 1e-4;
  const ofA = isLine ? 1 - fraction : Math.sin((1 - fraction) * angle) / sine;
  const ofB = isLine ? fraction : Math.sin(fraction * angle) / sine;
  return a.map((value, i) => ofA * value + ofB * b[i]);
}
