/** The page: adapter, layer, and the panels that measure. */
import './style.css';
import { InvalidArgumentError } from '../src/errors.js';
import { isSoftware } from '../src/gpu/caps.js';
import { mountAccuracy } from './accuracy.js';
import { showAdapter, showFailure, showNoGpu } from './adapter.js';
import { onAddress, writeAddress } from './address.js';
import { find } from './dom.js';
import { exportButtons } from './export.js';
import { LayerForm } from './layer.js';
import { measureOverhead, showOverhead } from './overhead.js';
import { type RunContext, RunPanel } from './run.js';
import { openSession, type Session } from './session.js';
import { DEFAULTS, fromHash, problemWith, SOFTWARE_DEFAULTS, toParameters } from './settings.js';
import { measureSweep, showSweep } from './sweep.js';

const card = find('#adapter-card');

// Needs no GPU, so it is there also where there is none.
mountAccuracy(find('#accuracy'));
start().catch((error: unknown) => showFailure(card, error));

async function start(): Promise<void> {
  let session: Session;
  try {
    session = await openSession();
  } catch (error) {
    showNoGpu(card, error);
    return;
  }
  showAdapter(card, session.gpu);
  const defaults = isSoftware(session.gpu.adapterInfo) ? SOFTWARE_DEFAULTS : DEFAULTS;
  // Settings live in the address, so that it is the link that reproduces a run.
  const form = new LayerForm(find('#settings'), fromHash(location.hash, defaults), (settings) =>
    writeAddress(toParameters(settings)),
  );
  onAddress((hash) => form.write(fromHash(hash, defaults)));

  /** A new device where the last one was lost. */
  const working = async () => {
    if (session.lostError) {
      session = await openSession();
      showAdapter(card, session.gpu);
    }
    return session;
  };
  const settings = () => {
    const now = form.read();
    const problem = problemWith(now);
    if (problem) throw new InvalidArgumentError('demo', problem);
    return now;
  };

  const overhead = find('#overhead');
  new RunPanel(overhead, working, async (context: RunContext) => {
    const result = await measureOverhead(context, settings());
    showOverhead(overhead, result);
    const checked = result.rows.filter(({ status }) => status === 'ok').length;
    return `Done: ${checked} of ${result.rows.length} checked and measured.`;
  });
  const sweep = find('#sweep');
  new RunPanel(sweep, working, async (context: RunContext) => {
    const result = await measureSweep(context, settings(), (rows) => showSweep(sweep, rows));
    return `Done: ${result.rows.length} products.`;
  });
  for (const panel of [overhead, sweep])
    find('.results', panel).append(exportButtons('Link to these settings'));
  for (const section of [find('#layer-section'), overhead, sweep]) section.hidden = false;

  // After what most readers come for, and early enough to be there without a network.
  const { mountLanguageModel } = await import('./lm-section.js');
  mountLanguageModel(find('#language-model'), session, working);
}
