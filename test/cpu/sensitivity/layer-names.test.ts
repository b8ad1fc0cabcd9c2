import { expect, test } from 'vitest';
import { placeLayer, sortBlocks, sortComponents } from '../../../src/sensitivity/layer-names.js';

test.each([
  // Names of published checkpoints, by architecture.
  ['model.layers.3.self_attn.q_proj.weight', 'q', 'model.layers.3'],
  ['model.layers.11.mlp.gate_up_proj.weight', 'gate_up', 'model.layers.11'],
  ['model.layers.0.self_attn.qkv_proj', 'qkv', 'model.layers.0'],
  ['layers.2.attention.wo.weight', 'o', 'layers.2'],
  ['layers.2.feed_forward.w3.weight', 'up', 'layers.2'],
  ['model.layers.7.block_sparse_moe.experts.5.w2.weight', 'experts.down', 'model.layers.7'],
  ['model.layers.7.mlp.experts.gate_up_proj', 'experts.gate_up', 'model.layers.7'],
  ['model.layers.7.mlp.shared_expert.up_proj.weight', 'shared.up', 'model.layers.7'],
  ['model.layers.7.mlp.shared_experts.down_proj.weight', 'shared.down', 'model.layers.7'],
  ['model.layers.1.self_attn.kv_b_proj.weight', 'kv_b', 'model.layers.1'],
  ['transformer.h.4.attn.c_attn.weight', 'qkv', 'transformer.h.4'],
  ['transformer.h.4.attn.c_proj.weight', 'o', 'transformer.h.4'],
  ['transformer.h.4.mlp.c_fc.weight', 'up', 'transformer.h.4'],
  ['transformer.h.4.mlp.c_proj.weight', 'down', 'transformer.h.4'],
  ['gpt_neox.layers.0.attention.query_key_value.weight', 'qkv', 'gpt_neox.layers.0'],
  ['gpt_neox.layers.0.attention.dense.weight', 'o', 'gpt_neox.layers.0'],
  ['gpt_neox.layers.0.mlp.dense_4h_to_h.weight', 'down', 'gpt_neox.layers.0'],
  ['model.decoder.layers.9.self_attn.out_proj.weight', 'o', 'model.decoder.layers.9'],
  ['model.decoder.layers.9.encoder_attn.k_proj.weight', 'cross.k', 'model.decoder.layers.9'],
  ['model.decoder.layers.9.fc1.weight', 'up', 'model.decoder.layers.9'],
  ['bert.encoder.layer.1.attention.self.query.weight', 'q', 'bert.encoder.layer.1'],
  ['bert.encoder.layer.1.attention.output.dense.weight', 'o', 'bert.encoder.layer.1'],
  ['bert.encoder.layer.1.intermediate.dense.weight', 'up', 'bert.encoder.layer.1'],
  ['bert.encoder.layer.1.output.dense.weight', 'down', 'bert.encoder.layer.1'],
  ['decoder.block.5.layer.1.EncDecAttention.o.weight', 'cross.o', 'decoder.block.5'],
  ['decoder.block.5.layer.2.DenseReluDense.wo.weight', 'down', 'decoder.block.5'],
  ['decoder.block.5.layer.2.DenseReluDense.wi_0.weight', 'gate', 'decoder.block.5'],
  ['blk.12.attn_output.weight', 'o', 'blk.12'],
  ['blk.12.ffn_down_exps.weight', 'experts.down', 'blk.12'],
  ['blk.12.ffn_gate_shexp.weight', 'shared.gate', 'blk.12'],
  ['backbone.layers.2.mixer.in_proj.weight', 'in', 'backbone.layers.2'],
  ['model.layers.2.linear_attn.in_proj_qkvz.weight', 'in_proj_qkvz', 'model.layers.2'],
  ['lm_head.weight', 'lm_head', ''],
])('%s', (name, component, block) => {
  expect(placeLayer(name)).toEqual({ name, component, block });
});

test('components in the order of a block, dense ones first', () => {
  expect(sortComponents(['experts.down', 'x', 'down', 'o', 'gate', 'experts.up', 'q', 'down'])).toEqual([
    'q',
    'o',
    'gate',
    'down',
    'x',
    'experts.up',
    'experts.down',
  ]);
});

test('blocks by number, not by text, each stack apart', () => {
  expect(sortBlocks(['e.10', 'd.1', 'e.9', 'd.0', 'e.10', ''])).toEqual(['e.9', 'e.10', 'd.0', 'd.1', '']);
});
