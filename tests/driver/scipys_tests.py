"""Which of SciPy's own tests of `minimize` an optimizer runs as the method, and which not and why.

By their names in scipy/optimize/tests; the folder of trust-constr's own parts is not looked at.
"""

#: The versions of SciPy whose tests these lists are made for.
WRITTEN_FOR = ("1.13.", "1.17.")

CHOSEN = {
    "problems with a minimum that is known": """
        CheckOptimizeParameterized.test_cg_cornercase CheckOptimizeParameterized.test_ncg_zero_xtol
        TestOptimizeSimple.test_custom TestOptimizeSimple.test_minimize_l_bfgs_b TestNewtonCg.test_himmelblau
        TestNewtonCg.test_rosenbrock TestTnc.test_minimize_tnc38 TestTrustRegionConstr.test_no_constraints
        TestTrustRegionSolvers.test_trust_exact_start_in_optimum TestTrustRegionSolvers.test_trust_ncg_hessp
        TestTrustRegionSolvers.test_trust_krylov_start_in_optimum
        TestTrustRegionSolvers.test_trust_ncg_start_in_optimum""",
    "bounds, and starts outside of them": """
        CheckOptimizeParameterized.test_neldermead_x0_ub TestLBFGSBBounds.test_minimize_l_bfgs_b_bounds
        TestLBFGSBBounds.test_minimize_l_bfgs_b_bounds_FD
        TestLBFGSBBounds.test_minimize_l_bfgs_b_incorrect_bounds test_bounds_with_list test_gh12594
        test_powell_limits TestTnc.test_minimize_tnc1 TestTnc.test_minimize_tnc1b TestTnc.test_minimize_tnc1c
        TestTnc.test_minimize_tnc2 TestTnc.test_minimize_tnc3 TestTnc.test_minimize_tnc4
        TestTnc.test_minimize_tnc5 TestTnc.test_minimize_tnc45 TestSLSQP.test_bounds_clipping
        TestSLSQP.test_invalid_bounds TestSLSQP.test_new_bounds_type TestTrustRegionConstr.test_issue_15093
        TestSLSQP.test_minimize_bounded_approximated TestBoundedNelderMead.test_equal_all_bounds
        TestBoundedNelderMead.test_equal_one_bounds TestBoundedNelderMead.test_rosen_brock_with_bounds
        TestBounds.test_basic TestBounds.test_unbounded""",
    "gradients: given, with f, by differences, in float32": """
        TestSLSQP.test_minimize_unbounded_approximated TestSLSQP.test_minimize_unbounded_combined
        TestSLSQP.test_minimize_unbounded_given TestTrustRegionConstr.test_default_hess
        TestTrustRegionConstr.test_default_jac_and_hess test_gh_issue18730 test_neldermead_respect_fp""",
    "arguments, callbacks, limits and the result": """
        TestOptimizeSimple.test_bfgs_double_evaluations TestOptimizeSimple.test_bfgs_nan_return
        TestOptimizeSimple.test_duplicate_evaluations TestOptimizeSimple.test_minimize_callback_copies_array
        TestOptimizeSimple.test_minimize_coerce_args_param TestOptimizeSimple.test_minimize_tol_parameter
        TestOptimizeSimple.test_nan_values TestOptimizeSimple.test_ndim_error
        TestOptimizeSimple.test_no_increase TestOptimizeSimple.test_respect_maxiter
        TestOptimizeResultAttributes.test_attributes_present TestAnnotations.test_callable_annotations
        test_minimize_with_scalar test_powell_output test_result_x_shape_when_len_x_is_one
        test_x_overwritten_user_function TestTnc.test_callback_shouldnt_affect_minimization
        TestTnc.test_raising_exceptions TestSLSQP.test_gh_6676
        TestOptimizeSimple.test_callback_stopiteration TestSLSQP.test_callback""",
}

LEFT_OUT = {
    "constraints, which are refused": """
        TestCobyla.test_minimize_constraint_violation TestCobyla.test_minimize_linear_constraints
        TestCobyla.test_minimize_simple test_vector_constraints TestCOBYQA.test_minimize_args
        TestCOBYQA.test_minimize_array TestCOBYQA.test_minimize_bounds TestCOBYQA.test_minimize_f_target
        TestCOBYQA.test_minimize_linear_constraints TestCOBYQA.test_minimize_maxfev
        TestCOBYQA.test_minimize_maxiter TestCOBYQA.test_minimize_simple
        TestOldToNew.test_constraint_dictionary_1 TestOldToNew.test_constraint_dictionary_2
        TestOldToNew.test_constraint_dictionary_3 TestNewToOld.test_individual_constraint_objects
        TestNewToOld.test_multiple_constraint_objects TestNewToOldSLSQP.test_list_of_problems
        TestNewToOldSLSQP.test_warn_ignored_options TestNewToOldSLSQP.test_warn_mixed_constraints
        TestNewToOldCobyla.test_list_of_problems TestTrustRegionConstr.test_args
        TestTrustRegionConstr.test_hessp TestTrustRegionConstr.test_list_of_problems
        TestTrustRegionConstr.test_raise_exception TestEmptyConstraint.test_empty_constraint test_bug_11886
        test_gh11649 test_gh20665_too_many_constraints test_issue_18882 TestOptimizeSimple.test_gh10771
        TestOptimizeSimple.test_minimize_automethod TestOptimizeSimple.test_slsqp_respect_bounds
        TestOptimizeSimple.test_respect_maxiter_trust_constr_ineq_constraints
        test_minimize_multiple_constraints test_eb_constraints TestSLSQP.test_gh1758 TestSLSQP.test_gh9640
        TestSLSQP.test_inconsistent_inequalities TestSLSQP.test_inconsistent_linearization
        TestSLSQP.test_infeasible_initial TestSLSQP.test_minimize_bound_equality_given2
        TestSLSQP.test_minimize_bounded_constraint TestSLSQP.test_minimize_equality_approximated
        TestSLSQP.test_minimize_equality_given TestSLSQP.test_minimize_equality_given2
        TestSLSQP.test_minimize_equality_given_cons_scalar TestSLSQP.test_minimize_inequality_given
        TestSLSQP.test_minimize_inequality_given_vector_constraints TestSLSQP.test_regression_5743
        test_slsqp_segfault_wrong_workspace_computation""",
    "a Hessian, or what a method has found out about it": """
        TestOptimizeSimple.test_finite_differences_hess TestNewtonCg.test_finite_difference
        TestNewtonCg.test_hessian_update_strategy test_gh12513_trustregion_exact_infinite_loop
        test_sparse_hessian test_1 test_2 test_3""",
    "an option, a message or a result of the one method that is named": """
        CheckOptimizeParameterized.test_bfgs CheckOptimizeParameterized.test_bfgs_c1
        CheckOptimizeParameterized.test_bfgs_c2 CheckOptimizeParameterized.test_bfgs_hess_inv0_neg
        CheckOptimizeParameterized.test_bfgs_hess_inv0_sanity
        CheckOptimizeParameterized.test_bfgs_hess_inv0_semipos CheckOptimizeParameterized.test_bfgs_xrtol
        CheckOptimizeParameterized.test_invalid_c1_c2 CheckOptimizeParameterized.test_ncg_negative_maxiter
        CheckOptimizeParameterized.test_neldermead_initial_simplex
        CheckOptimizeParameterized.test_neldermead_initial_simplex_bad
        CheckOptimizeParameterized.test_powell CheckOptimizeParameterized.test_powell_gh14014
        test_neldermead_adaptive test_bounded_powell_outsidebounds TestCobyla.test_f_target
        TestOptimizeSimple.test_l_bfgs_b_maxiter TestOptimizeSimple.test_minimize_l_bfgs_maxls
        TestTrustRegionConstr.test_issue_9044 TestWorkers.test_equal_bounds TestWorkers.test_smoke
        test_cobyla_threadsafe TestTrustRegionSolvers.test_dogleg_accuracy
        TestTrustRegionSolvers.test_dogleg_callback TestTrustRegionSolvers.test_solver_concordance
        TestSLSQP.test_parameters_stay_within_bounds""",
    "how many evaluations a line search or a simplex takes": """
        CheckOptimizeParameterized.test_cg CheckOptimizeParameterized.test_cobyqa
        CheckOptimizeParameterized.test_ncg CheckOptimizeParameterized.test_ncg_hess
        CheckOptimizeParameterized.test_ncg_hessp CheckOptimizeParameterized.test_neldermead
        CheckOptimizeParameterized.test_powell_bounded TestOptimizeSimple.test_finite_differences_jac
        TestOptimizeSimple.test_initial_step_scaling TestSLSQP.test_nested_minimization""",
    "maxfev to the very evaluation, where differences take several a point": """
        test_maxfev_test TestIterationLimits.test_neldermead_limit TestIterationLimits.test_powell_limit""",
    "a way to go, or an accuracy, that steps of a fixed length do not reach": """
        CheckOptimizeParameterized.test_bfgs_infinite test_onesided_bounded_powell_stability
        test_bounded_powell_vs_powell TestOptimizeSimple.test_minimize_l_bfgs_b_ftol""",
    "what SciPy does around its own methods alone: fixed parameters taken out, its messages, warnings": """
        test_all_bounds_equal test_equal_bounds test_obj_func_returns_scalar
        TestOptimizeSimple.test_minimize_invalid_bounds TestBoundedNelderMead.test_invalid_bounds
        TestBoundedNelderMead.test_outside_bounds_warning TestOptimizeSimple.test_minimize_warnings_gh1953
        TestOptimizeSimple.test_runtime_warning TestTrustRegionSolvers.test_dogleg_user_warning""",
    "where the driver differs: a maxiter of 100.1 is refused": "test_minimize_maxiter_noninteger",
    "of other functions, which minimize is compared with or finishes": """
        TestDifferentialEvolutionSolver.test_integrality TestDifferentialEvolutionSolver.test_polish_function
        TestShgoArguments.test_21_1_jac_true TestShgoArguments.test_21_2_derivative_options
        TestShgoArguments.test_21_3_hess_options_rosen TestShgoArguments.test_21_arg_tuple_sobol
        TestShgoArguments.test_args_gh23517 test_fp32_gh12991 TestBrute.test_brute""",
}

#: Half a second each, or more.
SLOW = (
    "TestOptimizeSimple.test_custom",
    "test_gh12594",
    "TestAnnotations.test_callable_annotations",
    "TestTnc.test_minimize_tnc1b",
    "CheckOptimizeParameterized.test_cg_cornercase",
    "test_powell_output",
    "test_result_x_shape_when_len_x_is_one",
    "TestTnc.test_callback_shouldnt_affect_minimization",
    "test_neldermead_respect_fp",
    "CheckOptimizeParameterized.test_neldermead_x0_ub",
    "TestOptimizeSimple.test_minimize_tol_parameter",
    "TestBoundedNelderMead.test_rosen_brock_with_bounds",
    "TestTrustRegionConstr.test_no_constraints",
)
#: Without a line search f may rise: this is the option for it.
WITH = {"TestOptimizeSimple.test_no_increase": {"return_best": True}}
